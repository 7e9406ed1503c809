"""Which modules a quantisation packs, and how: a quantization_config as rules, of which the first match applies.

Supported keys and their sources: `dynamic` and `lm_head` (gptqmodel 7.7, `quantization/config.py:2519-2610` and
`models/writer.py:1297`; vLLM 0.33, `quantization/utils/gptq_utils.py:85-104`), `modules_in_block_to_quantize` and
`block_name_to_quantize` (transformers' GPTQConfig; the same file of vLLM, lines 117-166), `extra_config` (auto-round
0.16, `inference/convert_model.py`; vLLM, `inc/config_parser.py:71-160`), `quantized_layers` and exclusion lists
(ModelOpt), `config_groups` (compressed-tensors), and the exclusion lists of all other methods.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

from hfmem.mapper.module_names import PARENTS, Names
from hfmem.mapper.schemes import Scheme, algorithm, fp4_exponents, group_scheme, scheme_of
from hfmem.mapper.values import TensorGroup

__all__ = ["Reading", "Rule", "reading_of"]

_SCALED_LATER: Final = ("compressor.", "indexer.kv_proj", "indexer.gate_proj", "indexer.weights_proj")
"""Modules that DeepSeek's checkpoints keep in 16 bits without listing them: projections of the compressors and of the
indexer (modeling_deepseek_v4.py)."""

_BLOCKS_ONLY: Final = ("gptq", "awq", "auto-round")

_STAYING: Final = (
    "modules_to_not_convert",
    "ignored_layers",
    "ignore",
    "exclude_modules",
    "llm_int8_skip_modules",
)
_BLOCKS: Final = ("block_name_to_quantize", "to_quant_block_names")
_LAYOUTS: Final = ("format", "fmt", "method", "quant_method", "adapter", "pack_dtype")
"""Keys of an override that change the layout in a way that is not supported."""

_PLAIN_BITS: Final = 16  # a module listed with this many bits is unquantised
_MOST_EXPRESSIONS: Final = 1_000  # per list
_MOST_FORMATS: Final = 64  # per mixed checkpoint; real ones have two or three

_READ: Final = frozenset(
    (
        *_STAYING,
        *_BLOCKS,
        "modules_in_block_to_quantize",
        "dynamic",
        "extra_config",
        "quantized_layers",
        "quantization",
        "config_groups",
    )
)
_ELSEWHERE: Final = frozenset(
    ("meta", "producer", "kv_cache_scheme", "weight_block_size", "sparsity_config", "dataset")
)
"""Keys with lists or objects that do not affect which weights are packed, or how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The modules to which a scheme applies.

    Attributes:
        scheme: the layout; None for modules that stay unquantised.
        taken: included modules, as written in the config; empty for all linear ones.
        left: excluded modules.
        within: further lists, each of which must match a module of the decoder's layers too.
        components: components to which it is restricted; empty for all.
        head: whether the head counts as a linear layer.
        tables: whether token embeddings and routers do.
    """

    scheme: Scheme | None
    taken: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    within: tuple[tuple[str, ...], ...] = ()
    components: frozenset[str] = frozenset()
    head: bool = False
    tables: bool = False

    def layers(self, group: TensorGroup, names: Names) -> frozenset[int]:
        """The layers in which it applies to a group."""
        if self.components and group.component not in self.components:
            return frozenset()
        also = {"lm_head": self.head, "embedding": self.tables, "router": self.tables}.get(group.component, False)
        if not (group.linear or (also and len(group.shape) == 2)):
            return frozenset()
        if group.role.startswith(_SCALED_LATER):
            return frozenset()
        found = names.spoken_of(group, self.taken) if self.taken else names.layers(group)
        for entries in self.within if group.component != "lm_head" else ():
            found &= names.spoken_of(group, entries)
        return found - names.spoken_of(group, self.left) if self.left else found


@dataclass(slots=True, kw_only=True)
class Reading:
    """A quantisation as rules.

    Attributes:
        rules: rules in order of precedence; empty if the layout is unknown.
        unread: unsupported parts, as written in the config.
        looked_at: regular expressions that were checked already.
    """

    rules: list[Rule] = field(default_factory=list)
    unread: dict[str, None] = field(default_factory=dict)
    looked_at: set[str] = field(default_factory=set)

    def add(self, rule: Rule) -> None:
        """Append a rule; unsupported regular expressions in it are recorded in `unread`."""
        self.rules.append(rule)
        entries = (*rule.taken, *rule.left, *(word for words in rule.within for word in words))
        expressions = {entry.removeprefix("re:"): None for entry in entries if entry.startswith("re:")}
        if not expressions:
            return
        from hfmem.mapper.expressions import Expression  # only needed for lists with expressions

        if len(expressions) > _MOST_EXPRESSIONS:
            self.unread["too many patterns"] = None
        for text in islice(expressions, _MOST_EXPRESSIONS):
            if text not in self.looked_at:
                self.looked_at.add(text)
                if not Expression(text).readable:
                    self.unread[text] = None


def reading_of(method: str, bits: int, facts: Mapping[str, Any], config: Mapping[str, Any]) -> Reading:
    """The rules of a quantisation."""
    found = Reading()
    if method == "compressed-tensors":
        _groups(found, facts)
    elif method == "mlx":
        _mlx(found, bits, {**facts, "scales": config.get("torch_dtype") or config.get("dtype")})
        return found
    else:
        _others(found, method, bits, facts, config)
    if found.rules:
        found.unread.update(dict.fromkeys(key for key, value in facts.items() if _may_choose(key, value)))
    return found


def _may_choose(key: str, value: object) -> bool:
    """Whether an unsupported key may affect which modules are packed, or how."""
    if key in _READ or key in _ELSEWHERE or not value:
        return False
    return isinstance(value, Mapping) or (
        isinstance(value, list) and any(isinstance(each, str) for each in _flat(value))
    )


_LINEAR: Final = ("Linear",)


def _groups(found: Reading, facts: Mapping[str, Any]) -> None:
    """The config groups of compressed-tensors, each with its targets."""
    left = _words(facts, *_STAYING)
    groups = facts.get("config_groups")
    for name, group in groups.items() if isinstance(groups, Mapping) else ():
        scheme = group_scheme(group) if isinstance(group, Mapping) else None
        if scheme is None:
            continue
        targets = _words(group, "targets")
        classes = [word for word in targets if word.isidentifier() and word[:1].isupper() and word not in _LINEAR]
        found.unread.update(dict.fromkeys(f"the target {word} of {name}" for word in classes))
        named = () if set(_LINEAR) & set(targets) else tuple(targets)
        found.add(Rule(scheme=scheme, taken=named, left=left, head=True))


_PER_MODULE: Final = ("bits", "group_size", "mode", "scales")


def _mlx(found: Reading, bits: int, facts: Mapping[str, Any]) -> None:
    """MLX's `quantization`: all linear layers and embeddings of the text model, and modules with their own settings, or
    `false` for those that stay (mlx-lm 0.32, `quantize_model` of mlx_lm/utils.py)."""
    scheme = scheme_of("mlx", facts, bits)
    if scheme is None:
        return
    base = Rule(
        scheme=scheme, components=frozenset((*PARENTS, "router", "lm_head", "embedding")), head=True, tables=True
    )
    modules: dict[tuple[object, ...], list[str]] = {}
    for name, own in facts.items():
        if isinstance(own, Mapping):
            modules.setdefault(tuple(own.get(key, facts.get(key)) for key in _PER_MODULE), []).append(name)
        elif own is False:
            modules.setdefault((), []).append(name)
    for (settings, names), _ in zip(modules.items(), range(_MOST_FORMATS), strict=False):
        values = dict(zip(_PER_MODULE, settings, strict=False))
        own_bits = values.get("bits")
        usable = type(own_bits) is int and 1 <= own_bits <= _PLAIN_BITS
        own_scheme = scheme_of("mlx", values, own_bits) if usable and type(own_bits) is int else None
        if settings and own_scheme is None:
            found.unread[names[0]] = None
        else:
            found.add(replace(base, scheme=own_scheme, taken=tuple(names)))
    found.add(base)


def _others(found: Reading, method: str, bits: int, facts: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    left = _words(facts, *_STAYING)
    layers = facts.get("quantized_layers")
    if isinstance(layers, Mapping) and layers:
        _mixed(found, layers)
    if method == "fp8" and "fp4" in (config.get("expert_dtype"), facts.get("expert_dtype")):
        found.add(Rule(scheme=fp4_exponents, components=frozenset({"experts"})))
    scheme = scheme_of(method, facts, bits)
    if scheme is None:
        return
    blocks = tuple(f"re:{re.escape(word)}" for word in _words(facts, *_BLOCKS))
    listed = _words(facts, "modules_in_block_to_quantize")
    head = facts.get("lm_head") is True or facts.get("quant_lm_head") is True
    components = frozenset({"experts"}) if method == "mxfp4" else frozenset()
    if method in _BLOCKS_ONLY:
        outside = ("vision", "audio", "projector") if blocks else ()
        components = frozenset((*PARENTS, *outside, *(("lm_head",) if head else ())))
    base = Rule(
        scheme=scheme,
        # in a mixed checkpoint, the exclusion list belongs to `quantized_layers`, and not to the FP8 of the rest
        left=() if layers and method == "fp8" else left,
        within=tuple(words for words in (blocks, listed) if words),
        components=components,
        head=head,
    )
    for rule in _overrides(found, method, bits, facts, base):
        found.add(rule)
    found.add(base)


_Override = tuple[str, str, object]
"""(Entry as written in the config, the same as a module pattern, overrides). Without overrides (None) modules stay
unquantised."""


def _overrides(found: Reading, method: str, bits: int, facts: Mapping[str, Any], base: Rule) -> Iterator[Rule]:
    """The rules that precede the base rule: gptqmodel's `dynamic`, which selects among packed modules, then
    auto-round's `extra_config`, which can also pack modules that the base rule does not."""
    anything = replace(base, within=(), components=frozenset(), head=True)
    for key, entries_of, rule in (("dynamic", _dynamic, base), ("extra_config", _extra, anything)):
        entries = facts.get(key)
        if isinstance(entries, Mapping):
            yield from _overridden(found, entries_of(entries), (method, bits, facts), rule)
        elif entries:
            found.unread[key] = None


def _overridden(
    found: Reading, entries: Iterable[_Override], of: tuple[str, int, Mapping[str, Any]], base: Rule
) -> Iterator[Rule]:
    """One rule per entry; unsupported ones are recorded in `unread`."""
    method, bits, facts = of
    for entry, module, override in entries:
        rule = replace(base, taken=(module,))
        if override is None:
            yield replace(rule, scheme=None)
            continue
        values: Mapping[str, Any] = override if isinstance(override, Mapping) else {}
        own = values.get("bits", bits)
        known = isinstance(override, Mapping) and all(values.get(key) in (None, facts.get(key)) for key in _LAYOUTS)
        if not known or type(own) is not int or own < 1:
            found.unread[entry] = None
        elif own >= _PLAIN_BITS:
            yield replace(rule, scheme=None)
        else:
            scheme = scheme_of(method, {**facts, **values}, own)
            if scheme is None:
                found.unread[entry] = None
            else:
                yield replace(rule, scheme=scheme)


def _dynamic(entries: Mapping[str, Any]) -> Iterator[_Override]:
    """Entries of `dynamic`, regular expressions over whole names: with `-:` for modules that stay unquantised, with
    `+:` or no prefix for modules with overrides."""
    for entry, override in entries.items():
        text = entry[2:] if entry.startswith(("-:", "+:")) else entry
        yield entry, f"re:{text}", None if entry.startswith("-:") else override


_SPECIAL: Final = frozenset(r"*+?^$()[]{}|\\")


def _extra(entries: Mapping[str, Any]) -> Iterator[_Override]:
    """Entries of `extra_config`: plain names first, then regular expressions that may match any part of a name."""
    for entry, override in entries.items():
        if not _SPECIAL & set(entry):
            yield entry, entry, override
    for entry, override in entries.items():
        if _SPECIAL & set(entry):
            yield entry, f"re:{entry}" if entry.startswith(("^", ".*")) else f"re:.*(?:{entry})", override


def _mixed(found: Reading, layers: Mapping[str, Any]) -> None:
    """ModelOpt's `quantized_layers`: modules, each with its format."""
    by_word: dict[str, list[str]] = {}
    for name, entry in layers.items():
        word = entry.get("quant_algo") if isinstance(entry, Mapping) else entry
        by_word.setdefault(str(word), []).append(str(name))
    if len(by_word) > _MOST_FORMATS:
        found.unread[f"{len(by_word):,} formats of quantized_layers"] = None
    for word, names in islice(by_word.items(), _MOST_FORMATS):
        scheme = algorithm(word, {})
        if scheme is None:
            found.unread[f"{word} of {len(names)} quantized_layers"] = None
        else:
            found.add(Rule(scheme=scheme, taken=tuple(names), head=True))


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    """The entries of a list, with nested lists flattened."""
    for value in values:
        yield from value if isinstance(value, list) else (value,)


def _words(facts: Mapping[str, Any], *keys: str) -> tuple[str, ...]:
    """The strings in the lists at the keys; a single string is split at commas."""
    found: list[str] = []
    for key in keys:
        value = facts.get(key)
        if isinstance(value, str):
            found += (word.strip() for word in value.split(",") if word.strip())
        elif isinstance(value, list):
            found += (word for word in _flat(value) if isinstance(word, str))
    return tuple(found)
