"""Small configurations of a type whose sizes are all different, so that each size can be told from its tensors.

A variant starts from the type's small configuration (`hfmem.probe.tiny`) and draws every size anew. Sizes that a class
ties to each other are drawn together where the tie is known; a size that the class refuses to change stays as it is.
"""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import torch
import transformers

from hfmem.mapper.sizes import OWN_WIDTH
from hfmem.probe import tiny
from hfmem.probe.activations.structures import plain, switched
from hfmem.probe.activations.tracer import Counting
from hfmem.probe.tiny import value as _value

__all__ = ["SHAPES", "Variant", "fixed_sizes", "has_windows", "variants"]

SHAPES: Final = ((2, 16), (3, 24), (2, 36), (4, 20), (3, 32), (5, 28), (2, 40))
"""Sequences and their tokens at each probe, all longer than the windows that are drawn."""

CHUNKED_SHAPES: Final = ((2, 210), (3, 270), (2, 350), (4, 230), (2, 290), (3, 200), (2, 410))
"""The same for classes that work in chunks of tokens and pad to them: four chunks at least, of 64 or fewer, so that
the first and the last two turns of a loop are others; the last one not full, so that padding can be told."""

Config = dict[str, Any]
Variant = tuple[Config, int, int]

_POSITIONS: Final = re.compile(r"(max_position|^n_positions$|^n_ctx$|max_seq_len|max_sequence_length|seq_length)")

# Numbers that are no sizes of a tensor, or that decide on the kinds of layers and not on their sizes.
_FIXED: Final = re.compile(
    r"(_id$|_ids$|token|_index$|layer|depth|interval|pattern|period|every|step|_group$|^topk_group$|seed|pretraining_tp|"
    r"first_k|version|^rope|rotary|_size_per|num_labels|hidden_act|num_nextn|mtp|experts_implementation|position|"
    r"offset|expand_ratio|altup_num_inputs|temporal|label|scale|^dt_|time_step|^n_hashes|buckets|^axial|block_length|num_hash)"
)

_WINDOWS: Final = re.compile(r"(window|attention_chunk_size$|chunk_length|index_topk|indexer_budget|^local_attention)")

# How many layers at the start have no experts.
_DENSE_FIRST: Final = re.compile(r"^(first_k_dense_replace|num_dense_layers|n_dense_layers|moe_layer_start_index)$")

_EXPERTS: Final = re.compile(r"(num|routed|local)_experts$|^n_routed_experts$|_num_experts$")

# Chunks of tokens that a scan works through; tokens of the shapes are multiples of them.
_CHUNK: Final = re.compile(r"^(mamba_|ssm_|linear_)?chunk_size$|^block_size$")

_HEADS: Final = ("num_attention_heads", "n_head", "n_heads", "num_heads", "decoder_attention_heads")
_KV: Final = ("num_key_value_heads", "num_kv_heads", "multi_query_group_num", "kv_n_heads")
_HIDDEN: Final = ("hidden_size", "d_model", "n_embd")
_HEAD_DIM: Final = ("head_dim", "d_kv", "kv_channels", "dim_head")


def variants(model_type: str, name: str, *, within: bool = False, few: bool = False, attempt: int = 0) -> list[Variant]:
    """A configuration for each of `SHAPES`, with the sequences and tokens to run it with.

    Args:
        model_type, name: the type, with the keys that are switched (`hfmem.probe.activations.structures`), and its
            class.
        within: whether windows are longer than the tokens (else they are shorter).
        attempt: another number draws other sizes.
        few: only the first ones, with no search for the sizes that the class takes: to compare, not to solve.

    Raises:
        Exception: what the class raises for its small configuration.
    """
    base = _lengthened(_with_shared_caches(tiny.shrunk(plain(model_type), name)), within)
    path = tiny.text_path(tiny.build(base))
    base = _with_all_heads(_changed(base, path, switched(base, model_type)), path)
    deck = _Deck(f"{model_type} {within} {attempt}" if attempt else f"{model_type} {within}")
    base = _with_head_dim(base, path)
    fields = _sizes(base, path)
    kept = [key for key in fields if few or _tied(key) or _free(base, path, key, fields[key], deck)]
    depth = _encoder_depth(base, path)
    found = []
    for batch, tokens in (CHUNKED_SHAPES if _is_chunked(base, path) else SHAPES)[: _FEW if few else None]:
        changes = _joint(base, path, {key: fields[key] for key in kept}, deck)
        changes |= {key: deck.pick("encoder depth", (2, 3, 4, 5)) for key in depth}
        found.append((_changed(base, path, changes), batch, tokens))
    return found


def _encoder_depth(config: Config, path: tuple[str, ...]) -> tuple[str, ...]:
    """The key that counts an encoder's layers, where there is an encoder: what they keep is told by their number.

    Raises:
        LookupError: there is an encoder, and the text model's configuration does not count its layers.
    """
    built = tiny.build(config)
    text = tiny.at(built, path)
    if not getattr(text, "is_encoder_decoder", False) and not built.is_encoder_decoder:
        return ()
    pairs = (("encoder_layers", "decoder_layers"), ("num_layers", "num_decoder_layers"))
    for key, other in pairs:
        if isinstance(getattr(text, key, None), int) and isinstance(getattr(text, other, None), int):
            return (key,)
    raise LookupError("nothing in its text model's configuration counts the layers of its encoder")


def _free(base: Config, path: tuple[str, ...], key: str, value: int, deck: _Deck) -> bool:
    """Whether the class takes another size: of several, since one may be too large for another reason."""
    return any(_works(base, path, {key: deck.size(key, value)}) for _ in range(3))


_FEW: Final = 3

_CHUNKS: Final = re.compile(r"(chunk_size|linear_|lightning|block_size|delta)")


def _is_chunked(config: Config, path: tuple[str, ...]) -> bool:
    text = tiny.at(tiny.build(config), path)
    kinds = getattr(text, "layer_types", None) or ()
    names = (key for key in (*dict(_integers(text)), *map(str, kinds)) if key != "chunk_size_feed_forward")
    return any(_CHUNKS.search(name) for name in names) and not _loops_over_tokens(config)


def _loops_over_tokens(config: Config) -> bool:
    """Whether a forward pass of a few tokens more runs more operations: no chunk is that short."""
    counts = []
    for tokens in (16, 24):
        with torch.no_grad(), Counting() as counting:
            _forward(config, tokens)
        counts.append(counting.count)
    return bool(counts[0] != counts[1])


def has_windows(drawn: Sequence[Variant]) -> bool:
    """Whether a type has attention that sees a window of the tokens."""
    config = drawn[0][0]
    built = tiny.build(config)
    text = tiny.at(built, tiny.text_path(built))
    return any(_WINDOWS.search(key) and not _CHUNK.search(key) and value > 1 for key, value in _integers(text))


def fixed_sizes(drawn: Sequence[Variant]) -> dict[str, int]:
    """Sizes that are the same in all variants, since the class would not have them changed; windows that are longer
    than the tokens are no sizes of anything."""
    path = tiny.text_path(tiny.build(drawn[0][0]))
    texts = [tiny.at(tiny.build(config), path) for config, _, _ in drawn]
    names = _sizes(drawn[0][0], path)
    longest = max(tokens for _, _, tokens in drawn)
    sizes = {name: value for name, value in names.items() if not (_WINDOWS.search(name) and value > longest)}
    return {name: value for name, value in sizes.items() if len({str(_value(text, name)) for text in texts}) == 1}


def _lengthened(config: Config, within: bool) -> Config:
    """The configuration with room for the tokens of every shape, and windows around or below them."""
    built = tiny.build(config)
    path = tiny.text_path(built)
    text = tiny.at(built, path)
    changes: dict[str, Any] = {}
    for key, value in _integers(text):
        if _POSITIONS.search(key) and "rope" not in key:
            changes[key] = 4096
        elif _DENSE_FIRST.search(key):
            changes[key] = 1  # so that there are layers with experts, and layers without
        elif _WINDOWS.search(key) and value > 1:
            changes[key] = 2048 if within else value
    changed = _changed(config, path, changes)
    return changed if _builds(changed) else config


def _with_all_heads(config: Config, path: tuple[str, ...]) -> Config:
    """The configuration with as many key/value heads as heads, where it does not run with fewer."""
    text = tiny.at(tiny.build(config), path)
    kv, heads = (next((key for key in keys if hasattr(text, key)), None) for keys in (_KV, _HEADS))
    if kv is None or heads is None or _runs(config):
        return config
    changed = _changed(config, path, {kv: _value(text, heads)})
    return changed if _works(config, path, {kv: _value(text, heads)}) else config


def _with_shared_caches(config: Config) -> Config:
    """The configuration with layers of each kind that read another's cache, after those that have their own, where the
    class has such layers; one of each kind whose network is sparse before all others, where it has those too."""
    built = tiny.build(config)
    path = tiny.text_path(built)
    text = tiny.at(built, path)
    kinds, depth = list(getattr(text, "layer_types", None) or ()), getattr(text, "num_hidden_layers", None)
    if len(kinds) != depth or not isinstance(getattr(text, _SHARING, None), int):
        return config
    firsts = sorted(kinds.index(kind) for kind in set(kinds))
    keep = [0, *firsts, *firsts, *firsts]
    changes: dict[str, Any] = {
        key: [value[index] for index in keep]
        for key in tiny.fields_of(text)
        if isinstance(value := vars(text).get(key), list | tuple) and len(value) == depth
    }
    changes |= {_SHARING: 2 * len(firsts), "num_hidden_layers": len(keep)}
    if isinstance(getattr(text, _SPARSITY, None), list):
        changes[_SPARSITY] = [0.95] * (1 + len(firsts)) + [0.0] * (2 * len(firsts))
        changes[_SHARING] = len(firsts)
    shared = _changed(config, path, changes)
    return shared if _builds(shared) and _runs(shared) else config


_SHARING: Final = "num_kv_shared_layers"
_SPARSITY: Final = "activation_sparsity_pattern"


def _with_head_dim(config: Config, path: tuple[str, ...]) -> Config:
    """The configuration with the size of its heads, where the class takes one that it has no field for: models then
    have queries of another width than their hidden size, and the two must be told apart."""
    text = tiny.at(tiny.build(config), path)
    if any(isinstance(_value(text, key), int) for key in _HEAD_DIM):
        return config
    hidden, heads = (
        next((found for key in keys if (found := _value(text, key)) is not None), None) for keys in (_HIDDEN, _HEADS)
    )
    if not isinstance(hidden, int) or not isinstance(heads, int):
        return config
    own, other = (_changed(config, path, {"head_dim": factor * hidden // heads}) for factor in (1, 2))
    return own if _builds(other) and _parameters(other) != _parameters(own) and _runs(other) else config


def _parameters(config: Config) -> int:
    with torch.device("meta"):
        model = getattr(transformers, config["architectures"][0])(tiny.build(config))
    return sum(parameter.numel() for parameter in model.parameters())


def _sizes(config: Config, path: tuple[str, ...]) -> dict[str, int]:
    text = tiny.at(tiny.build(config), path)
    return {
        key: value
        for key, value in _integers(text)
        if (value > 1 or "shared_experts" in key or "n_groups" in key)
        and not _POSITIONS.search(key)
        and (not _FIXED.search(key) or key in _ALWAYS)
    }


_ALWAYS: Final = (
    "num_experts_per_tok",
    "vocab_size_per_layer_input",
    "hidden_size_per_layer_input",
    "moe_topk",
    "time_step_rank",
)


def _integers(text: Any) -> Iterator[tuple[str, int]]:
    """The whole numbers of a configuration; of a list with an entry a layer, the one that all layers have."""
    fields = tiny.fields_of(text)
    own = [key for key in _HEAD_DIM if key not in fields and key in vars(text)]  # that the class has no field for
    if _value(text, "kv_lora_rank"):  # where it follows from the parts of a head
        own = []
    for key in (*fields, *own):
        value = _value(text, key)
        if (
            isinstance(value, list)
            and len(value) == _value(text, "num_hidden_layers")
            and len(set(map(str, value))) == 1
        ):
            value = value[0]
        if isinstance(value, int) and not isinstance(value, bool):
            yield key, value


def _tied(key: str) -> bool:
    states = [name for names in _STATE_HEADS for name in names]
    return key in (
        *_HEADS,
        *_KV,
        *_HIDDEN,
        *_HEAD_DIM,
        *OWN_WIDTH,
        *states,
        "linear_num_key_heads",
        "linear_num_value_heads",
    )


class _Deck:
    """Draws sizes: each of a key's values once before any of them comes again, so that no two keys go together."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311 - sizes, no secrets
        self._left: dict[str, list[Any]] = {}

    def pick(self, key: str, values: Sequence[Any]) -> Any:
        """One of the values."""
        left = [value for value in self._left.get(key, []) if value in values]
        if not left:
            left = self._random.sample(list(values), len(values))
        value, *self._left[key] = left
        return value

    def size(self, key: str, value: int) -> int:
        """A size like `value`: counts are small, widths multiples of eight."""
        return int(self.pick(key, _values(key, value)))


def _values(key: str, value: int) -> Sequence[int]:  # noqa: PLR0911 - one kind of size a line
    if _CHUNK.search(key):
        return (16, 32, 64)
    if _WINDOWS.search(key):
        return (value,) if value >= 1024 else (6, 8, 10, 12)
    if "vocab" in key:
        return range(104, 320, 8)
    if _EXPERTS.search(key):
        return (8, 10, 12, 14, 16, 18)
    if value < 8:
        return range(max(2, value), value + 6)
    if "dim" in key and value <= 64:
        return range(8, 56, 8)
    return range(8 * max(2, value // 16), 8 * (value // 8 + 6), 8)


def _joint(base: Config, path: tuple[str, ...], fields: Mapping[str, int], deck: _Deck) -> dict[str, Any]:
    """All sizes drawn at once; those that cannot go together stay as they are."""
    for _ in range(6):
        changes = _tied_sizes(base, path, fields, deck)
        changes |= {key: deck.size(key, value) for key, value in fields.items() if key not in changes}
        changes |= _tied_states(base, path, changes, deck)
        if _works(base, path, changes):
            return changes
    for dropped in [*fields]:
        fewer = {key: value for key, value in changes.items() if key != dropped}
        if _works(base, path, fewer):
            return fewer
    tied = _tied_sizes(base, path, fields, deck)
    changes = tied if _works(base, path, tied) else {}
    for key, value in fields.items():
        if key not in changes:
            more = {**changes, key: deck.size(key, value)}
            changes = more if _works(base, path, more) else changes
    return changes


_MOST_ROTARY: Final = 16  # elements; more would make heads too large to be quick


def _tied_sizes(base: Config, path: tuple[str, ...], fields: Mapping[str, int], deck: _Deck) -> dict[str, Any]:
    """Heads that key/value heads divide, and a hidden size that heads divide."""
    text = tiny.at(tiny.build(base), path)
    names = {group: next((key for key in group if key in fields), None) for group in (_HEADS, _KV, _HIDDEN, _HEAD_DIM)}
    heads, kv, hidden, dim = (names[group] for group in (_HEADS, _KV, _HIDDEN, _HEAD_DIM))
    changes: dict[str, Any] = {}
    if heads is None or hidden is None:
        return changes
    groups, pairs = deck.pick("heads", ((2, 2), (3, 2), (2, 3), (3, 3), (2, 4), (4, 2), (5, 2)))
    count = groups * pairs
    same = kv is not None and _value(text, kv) == _value(text, heads)
    changes[heads] = count
    if kv is not None:
        changes[kv] = count if same else pairs
    step = 8 if _sections(text) is None else 32
    rotary = getattr(text, "rotary_dim", None)
    if isinstance(rotary, int) and rotary <= _MOST_ROTARY:
        step = max(step, 2 * rotary)  # part of a head is rotated, never all of it
    changes[hidden] = count * step * deck.pick("hidden", (1, 2, 3) if count < 8 else (1, 2))
    if dim is not None:
        changes[dim] = step * deck.pick("head_dim", (1, 2, 3, 4))
    changes |= {
        key: changes[hidden] for key in OWN_WIDTH if key in fields and _value(text, key) == _value(text, hidden)
    }
    sections = _sections(text)
    if sections is not None:
        width = changes.get(dim, changes[hidden] // count) if dim else changes[hidden] // count
        old = _value(text, dim) if dim else _value(text, hidden) // _value(text, heads)
        rope = dict(text.rope_parameters)
        changes["rope_parameters"] = {**rope, "mrope_section": [size * width // old for size in sections]}
    return changes


# (heads of a state, the size of each, groups that share a projection, the factor from the hidden size)
_STATE_HEADS: Final = (
    ("mamba_n_heads", "mamba_d_head", "mamba_n_groups", "mamba_expand"),
    ("mamba_num_heads", "mamba_head_dim", "n_groups", "expand"),
    ("num_heads", "head_dim", "n_groups", "expand"),
    ("n_mamba_heads", "mamba_headdim", "mamba_ngroups", "mamba_expand"),
)

_STATE_WIDTH: Final = "mamba_d_ssm"  # heads × size, where a class does not take it from the hidden size


def _tied_states(base: Config, path: tuple[str, ...], changes: Mapping[str, Any], deck: _Deck) -> dict[str, Any]:
    """Heads of a state that fill the widened hidden size, which groups divide; value heads that key heads divide."""
    text = tiny.at(tiny.build(base), path)
    found: dict[str, Any] = {}
    hidden = next((key for key in _HIDDEN if _value(text, key) is not None), None)
    for heads, size, groups, expand in _STATE_HEADS:
        if all(isinstance(_value(text, key), int) for key in (heads, size, groups, expand)) and hidden:
            factor = deck.pick("expand", (2, 3))
            width = factor * changes.get(hidden, getattr(text, hidden))
            if isinstance(getattr(text, _STATE_WIDTH, None), int):
                found[_STATE_WIDTH] = width
            sizes = [d for d in (8, 16, 24, 32, 48) if width % d == 0 and width // d > 3]
            found[expand], found[size] = factor, deck.pick("state heads", sizes)
            found[heads] = width // found[size]
            found[groups] = deck.pick("groups", [n for n in (1, 2, 3, 4) if found[heads] % n == 0])
            break
    if hasattr(text, "linear_num_key_heads"):
        found["linear_num_key_heads"] = deck.pick("key heads", (2, 3, 4, 5))
        if hasattr(text, "linear_key_head_dim"):  # keys and values that come from one line are to be told apart
            pairs = ((8, 16), (16, 24), (24, 8), (32, 40), (40, 16), (48, 32), (16, 32))
            found["linear_key_head_dim"], found["linear_value_head_dim"] = deck.pick("state dims", pairs)
        found["linear_num_value_heads"] = found["linear_num_key_heads"] * deck.pick("value heads", (2, 3, 4))
    return found


def _sections(text: Any) -> list[int] | None:
    rope = getattr(text, "rope_parameters", None)
    found = rope.get("mrope_section") if isinstance(rope, dict) else None
    return list(found) if found else None


def _works(base: Config, path: tuple[str, ...], changes: Mapping[str, Any]) -> bool:
    """Whether the class takes a configuration, and runs a few tokens."""
    config = _changed(base, path, changes)
    return _builds(config) and _runs(config)


def _builds(config: Config) -> bool:
    return _attempt(lambda: tiny.build(config))


def _runs(config: Config) -> bool:
    return _attempt(lambda: _forward(config, 64))


def _forward(config: Config, tokens: int) -> None:
    built = tiny.build(config)
    with torch.no_grad():
        model = getattr(transformers, config["architectures"][0])._from_config(built, dtype=torch.bfloat16)
        model.eval()
        ids = torch.randint(3, 90, (1, tokens))
        model(input_ids=ids, **({"decoder_input_ids": ids} if built.is_encoder_decoder else {}))


def _attempt(action: Callable[[], Any]) -> bool:
    try:
        action()
    except Exception:  # a class refuses sizes in whatever way it likes
        return False
    return True


def _changed(base: Config, path: tuple[str, ...], changes: Mapping[str, Any]) -> Config:
    changed = copy.deepcopy(base)
    part = changed
    for key in path:
        part = part.setdefault(key, {})
    for key, value in changes.items():
        old = part.get(key)
        if part is not changed and old is not None and changed.get(key) == old:
            changed[key] = value  # a whole that repeats a size of its text model
        part[key] = [value] * len(old) if isinstance(old, list) and isinstance(value, int) else value
    return changed
