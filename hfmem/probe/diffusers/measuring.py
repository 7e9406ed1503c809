"""Measures a class of diffusers or a text encoder: a row of the table of calls."""

from __future__ import annotations

import gc
import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from math import ceil
from typing import Any, Final

import torch
import transformers
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakIdKeyDictionary

from hfmem.probe.diffusers.cutting import FACTS
from hfmem.probe.diffusers.fitting import (
    IMAGE,
    SQUARED,
    STAIRS,
    STILL,
    TEXT,
    VIDEO,
    Call,
    Fitted,
    Sizes,
    deviation,
    fit,
    raised,
)
from hfmem.probe.diffusers.fitting import value as monomial
from hfmem.probe.diffusers.inputs import Tensors
from hfmem.probe.diffusers.recipes import Recipe
from hfmem.probe.diffusers.recording import Recorded, build, record
from hfmem.probe.diffusers.uncached import diffusers

__all__ = ["call_class", "defaults", "measure", "model_class", "sizes_of"]

_DEPTH: Final = re.compile(r"^(n|num)_\w*layers$|^depth$|^num_\w*_blocks$|^nlayers$")
_SKIPPED: Final = re.compile(
    r"sample_|theta|max_|_max|freq|train|groups|compression|scal|patch|axes|eps|dropout|rate$|version|size_t|rope"
    r"|vocab|num_labels|token_id|position|buckets|distance|text_len|_ids|num_embeds|interpolation|padding|token_type"
)
_HEAD_COUNTS: Final = ("num_attention_heads", "num_heads", "n_heads", "num_layers_heads")
_HEAD_SIZES: Final = ("attention_head_dim", "head_dim", "d_kv")
_TILES: Final = re.compile(
    r"^(tile_|use_framewise|num_(sample|latent)_frames_batch_size|spatial_compression|temporal_comp|drop_last|block_)"
)

_INNER: Final = ("diffusers.pipelines.deprecated.wuerstchen", "diffusers.pipelines.kolors")
"""Have Stable Cascade's VAE and Kolors' text encoder, which diffusers does not export."""
_WORDS: Final = ("hidden_act", "feed_forward_proj")  # of a text encoder's config
_EQUAL: Final = 1e-4  # of the peak
_SPLIT: Final = 5  # frames that some classes split
_CLOSE: Final = 1e-3  # likewise

Config = dict[str, Any]
_Run = tuple[Mapping[str, float], Call, Recorded]


def model_class(name: str) -> Any:
    """A class of diffusers or transformers.

    Raises:
        LookupError: neither has it.
    """
    for library in (diffusers, transformers):
        if hasattr(library, name):
            return getattr(library, name)
    for inner in _INNER:
        if find_spec(inner) is not None and hasattr(import_module(inner), name):
            return getattr(import_module(inner), name)
    raise LookupError(f"diffusers {diffusers.__version__} has no {name}")


def defaults(cls: Any) -> Config:
    """The defaults of a class's config."""
    found = getattr(cls, "config_class", None)
    if found is not None and hasattr(found, "model_type"):
        return {key: value for key, value in found().to_dict().items() if isinstance(value, int | float | str | list)}
    parameters = inspect.signature(cls.__init__).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not p.empty}


def sizes_of(config: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a config that memory may depend on, elements of lists by "key.position"."""
    found: dict[str, float] = {}
    for key, value in config.items():
        if _SKIPPED.search(key) or _DEPTH.match(key) or "layers_per" in key:
            continue
        if isinstance(value, bool):
            continue
        if (isinstance(value, int) and value > 1) or (isinstance(value, float) and "ratio" in key):
            found[key] = value
        elif _listed(key, value):
            found.update({f"{key}.{n}": x for n, x in enumerate(value)})
    return found


def _listed(key: str, value: Any) -> bool:
    """Whether a value is a list of channels or heads."""
    if not isinstance(value, list | tuple) or not value:
        return False
    if any(isinstance(x, bool) or not isinstance(x, int) for x in value) or max(value) <= 1:
        return False
    return "channels" in key or "mult" in key or key in ("attention_head_dim", "num_attention_heads")


def _shallow(config: Config, depth: int) -> Config:
    found = dict(config)
    for key, value in config.items():
        if _DEPTH.match(key) and isinstance(value, int) and not isinstance(value, bool):
            found[key] = min(value, depth)
        elif key == "transformer_layers_per_block":
            found[key] = min(value, depth) if isinstance(value, int) else tuple(min(x, depth) for x in value)
    return found


def _with(config: Config, key: str, value: float) -> Config:
    """A config with another size; lists that split a head are adapted."""
    found = dict(config)
    name, dot, position = key.partition(".")
    if dot:
        items = list(config[name])
        items[int(position)] = int(value)
        found[name] = tuple(items)
        return found
    found[key] = int(value) if isinstance(config[key], int) else value
    for before, after in zip(_heads(config), _heads(found), strict=True):
        for other, items in config.items():
            whole = isinstance(items, list | tuple) and items and all(isinstance(x, int) for x in items)
            if whole and before and sum(items) == before and before != after and "channels" not in other:
                factor = after // before if after > before else 1
                found[other] = tuple(x * factor for x in items)
    return found


def _heads(config: Mapping[str, Any]) -> tuple[int, ...]:
    direct = [config[key] for key in _HEAD_SIZES if isinstance(config.get(key), int)]
    count = next((config[key] for key in _HEAD_COUNTS if isinstance(config.get(key), int)), 0)
    width = next((config[key] for key in ("hidden_size", "dim", "model_dim") if isinstance(config.get(key), int)), 0)
    return (direct[0] if direct else 0, width // count if count and width and not direct else 0)


class _Answers(TorchDispatchMode):  # type: ignore[misc] # PyTorch is untyped here
    """Answers what a class reads from a tensor without data: numbers by the recipe, and that no token is masked: a
    mask selects all of a tensor, and the opposite of a mask nothing; and that all tokens chose the same experts."""

    def __init__(self, answer: Any, chosen: int) -> None:
        super().__init__()
        self._answer = answer
        self._chosen = chosen
        self._opposites = WeakIdKeyDictionary()

    def _selected(self, source: Any, indices: Sequence[Any]) -> Any:
        """What a mask of the first dimensions selects; None for other indices."""
        masks = [index for index in indices if index is not None]
        if len(masks) != 1 or indices[0] is None or masks[0].dtype != torch.bool:
            return None
        count = 0 if masks[0] in self._opposites else masks[0].numel()
        return source.new_empty((count, *source.shape[masks[0].dim() :]))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.nonzero.default:
            return args[0].new_empty((args[0].numel(), args[0].dim()), dtype=torch.long)
        if func is torch.ops.aten.bincount.default and self._chosen:
            with unset_fake_temporarily():
                return torch.full((self._chosen,), args[0].numel() // self._chosen)
        if func is torch.ops.aten.index.Tensor:
            selected = self._selected(*args)
            if selected is not None:
                return selected
        try:
            found = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.bitwise_not.default:
                self._opposites[found] = True
            return found
        except DataDependentOutputException:
            if func is not torch.ops.aten._local_scalar_dense.default or self._answer is None:
                raise
            return self._answer


def call_class(  # noqa: PLR0913, PLR0917 - all that a call depends on
    model: Any, recipe: Recipe, config: Mapping[str, Any], call: Call, dtype: torch.dtype, mode: Any
) -> Recorded:
    """What one call of a built model allocates."""
    with mode:
        inputs = recipe.inputs(Tensors(call, config, dtype), call, config)
    method = getattr(model, recipe.method) if recipe.method != "forward" else model
    plain = {"return_dict": False} if hasattr(model, "load_config") and hasattr(model, "register_to_config") else {}

    def run(_model: Any) -> Any:
        with _Answers(recipe.scalar(call) if recipe.scalar is not None else None, config.get(recipe.chosen, 0)):
            return method(**inputs, **plain)

    return record(model, run, inputs, mode)


def _calls(recipe: Recipe) -> Iterator[Call]:
    if recipe.calls:
        yield from recipe.calls
        return
    if recipe.alone:
        yield from dict.fromkeys(replace(call, batch=1) for call in _calls(replace(recipe, alone=False)))
        return
    even = recipe.even
    if recipe.tokens:
        lengths = (64, 96, 160) if recipe.text is None else (recipe.text,)
        yield from (Call(batch=b, height=1, width=1, text=n) for b in (2, 3) for n in lengths)
        return
    texts = recipe.texts if recipe.text is None else (recipe.text,)
    sides = tuple(even * n for n in ((2, 4, 3) if recipe.squared else (2, 4)))
    frames = _frames(recipe, recipe.frames)
    for batch in (2, 3):
        for height in sides:
            width = height if recipe.square else 2 * even
            for count in frames:
                yield Call(batch=batch, height=height, width=width, frames=count, text=texts[0])
        more = (texts[1:], (*texts[1:], 2 * texts[-1]))[recipe.squared]
        for text in more:
            for height in sides[: 2 if recipe.squared else 1]:
                width = height if recipe.square else 2 * even
                yield Call(batch=batch, height=height, width=width, frames=frames[0], text=text)


def _frames(recipe: Recipe, counts: Sequence[int]) -> tuple[int, ...]:
    """Numbers of frames that the class takes: whole patches, as pipelines pad them; one of an image."""
    if not recipe.video:
        return (recipe.length,)
    patch = recipe.config.get("patch_size_t") or 1
    return tuple(ceil(count / patch) * patch for count in counts)


def _checked_frames(recipe: Recipe) -> int:
    """Another number of frames: between those that are measured where the class splits longer ones, else beyond."""
    high = recipe.frames[1]
    return _frames(recipe, (high - 1 if high < _SPLIT else high + 2,))[0]


def _checks(recipe: Recipe) -> Iterator[Call]:
    even = recipe.even
    if recipe.checked:
        yield from recipe.checked
        return
    text = 160 if recipe.text is None else recipe.text
    height, width = 6 * even, (6 if recipe.square else 4) * even
    for batch in (1, 2, 5):
        call = Call(batch=batch, height=height, width=width, frames=_checked_frames(recipe), text=text)
        if all(monomial(name, call) <= most for name, most in recipe.most.items()):
            yield call


def _realistic(recipe: Recipe) -> list[Call]:
    text = (77, 226, 512) if recipe.text is None else (recipe.text,)
    sizes = ((64, 64), (128, 128), (90, 160), (256, 256), (32, 32))
    return [
        Call(batch=batch, height=height, width=width, frames=frames, text=tokens)
        for batch in (1, 2, 8)
        for height, width in sizes
        for frames in ((1, 13, 21, 31) if recipe.video else (recipe.length,))
        for tokens in text
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    """A class with a config, as it is measured."""

    name: str
    kind: str
    recipe: Recipe
    single: bool
    quick: bool

    @property
    def cls(self) -> Any:
        """The class."""
        return model_class(self.name)

    @property
    def dtype(self) -> torch.dtype:
        """What it runs in."""
        return torch.float32 if self.single else torch.bfloat16

    @property
    def config(self) -> Config:
        """The config, with all defaults."""
        return {**defaults(self.cls), **self.recipe.config}

    def runs(self, config: Config, calls: Sequence[Call]) -> tuple[list[_Run], Any]:
        """What calls take, and the sizes of tiles."""
        found, tiles = _runs(self.cls, self.recipe, config, calls, self.dtype)
        have = _changed(config, sizes_of(self.config))
        return [({**sizes_of(self.config), **have}, call, run) for call, run in found], tiles

    @property
    def varied(self) -> tuple[str, ...]:
        """The sizes to vary: a convolutional network in float32 is measured for its own sizes only."""
        if self.quick:
            return ()
        keys, begins = tuple(sizes_of(self.config)), self.recipe.keys
        if self.single and self.recipe.method == "forward":
            return ()
        return keys if begins is None else tuple(key for key in keys if key.startswith(begins)) if begins else ()


def measure(name: str, kind: str, recipe: Recipe, *, single: bool = False, quick: bool = False) -> dict[str, Any]:
    """The row of a class for one of its configs.

    Args:
        name: the class.
        kind: what it is in a pipeline.
        recipe: how it is called, and its config.
        single: whether it runs in float32.
        quick: whether only this config is measured, without varying its sizes.

    Raises:
        Exception: whatever the class raises.
    """
    subject = _Subject(name=name, kind=kind, recipe=recipe, single=single, quick=quick)
    calls = list(_calls(recipe))
    config, depths = _reduced(subject, calls[0])
    checks, tiles = subject.runs(config, [call for call in _checks(recipe) if call.batch == 1 or not recipe.alone])
    if recipe.alone:
        realistic = [call for call in _realistic(recipe) if call.batch == 1]
        return {
            **_row(subject, _fitted(subject, config, calls, checks, realistic, batched=False), depths, tiles),
            "batch": 1,
        }
    if recipe.stairs:
        found = raised(
            _fitted(subject, config, calls, checks, _realistic(recipe)), subject.runs(config, calls)[0], checks
        )
        return _row(subject, found, depths, tiles)
    several = [run for run in checks if run[1].batch > 1]
    result = _fitted(subject, config, calls, several, _realistic(recipe))
    row = _row(subject, result, depths, tiles)
    one = [run for run in checks if run[1].batch == 1]
    if deviation(result, one) <= _CLOSE:
        return row
    # a batch of one needs no copies that a larger one needs
    alone = list(dict.fromkeys(replace(call, batch=1) for call in calls))
    realistic = [call for call in _realistic(recipe) if call.batch == 1]
    return {**row, "alone": _moments(_fitted(subject, config, alone, one, realistic, batched=False))}


def _fitted(  # noqa: PLR0913 - all that a fit depends on
    subject: _Subject,
    config: Config,
    calls: Sequence[Call],
    checks: Sequence[_Run],
    realistic: Sequence[Call],
    *,
    batched: bool = True,
) -> Fitted:
    runs, _ = subject.runs(config, calls)
    keys, pairs, more, refused = _variations(subject, config, runs)
    recipe = subject.recipe
    every = STAIRS if recipe.stairs else _monomials(recipe)
    names = [n for n in every if recipe.text is None or "T" not in n]
    names = [n for n in names if batched or "B" not in n]
    of = Sizes(keys=keys, pairs=pairs, names=names, shares=bool(recipe.stairs))
    found = fit([*runs, *more], checks, of, realistic)
    return replace(found, refused=refused)


def _monomials(recipe: Recipe) -> tuple[str, ...]:
    if recipe.tokens:
        return TEXT
    if recipe.squared:
        return (*SQUARED, "F", "BF", "P", "BP") if recipe.video else SQUARED
    return STILL if recipe.still else VIDEO if recipe.video else IMAGE


def _reduced(subject: _Subject, call: Call) -> tuple[Config, dict[str, Any]]:
    """The config with few layers, if their number does not matter; else the whole config, and its numbers of layers."""
    config = subject.config
    few, more = _shallow(config, 2), _shallow(config, 3)
    if few == more:
        return few, {}
    try:
        peaks = [subject.runs(each, [call])[0][0][2].peak for each in (few, more)]
    except Exception:  # a class may refuse a depth with any exception: lists name layers, skips pair them
        peaks = []
    if peaks and abs(peaks[1] / peaks[0] - 1) <= _EQUAL:
        return few, {}
    return config, {key: value for key, value in config.items() if _DEPTH.match(key) or "layers_per_block" in key}


def _variations(
    subject: _Subject, config: Config, runs: Sequence[_Run]
) -> tuple[list[str], list[tuple[str, str]], list[_Run], tuple[str, ...]]:
    """The sizes that matter, the pairs of them that were varied together, what those calls took, and the sizes that
    could not be varied."""
    keys: list[str] = []
    refused: list[str] = []
    pairs: list[tuple[str, str]] = []
    more: list[_Run] = []
    for key in subject.varied:
        found = _varied(subject, config, (key,), runs)
        if not found:
            refused.append(key)
        elif any(a[2].moments != b[2].moments or a[2].inputs != b[2].inputs for a, b in zip(found, runs, strict=True)):
            keys.append(key)
            more += found
    for pair in _pairs(keys):
        if found := _varied(subject, config, pair, runs):
            pairs.append(pair)
            more += found
    return keys, pairs, more, tuple(refused)


def _varied(subject: _Subject, config: Config, keys: Sequence[str], runs: Sequence[_Run]) -> list[_Run]:
    """The calls with sizes doubled; none where the class refuses them, or does other operations."""
    sizes = sizes_of(subject.config)
    for key in keys:
        config = _with(config, key, sizes[key] * 2)
    try:
        found, _ = subject.runs(config, [call for _, call, _ in runs])
    except Exception:  # a class may refuse a size with any exception
        return []
    alike = {tuple(run.ops) for _, _, run in runs}
    return found if len(alike) > 1 or {tuple(run.ops) for _, _, run in found} == alike else []


def _changed(config: Config, sizes: Mapping[str, float]) -> dict[str, float]:
    found = sizes_of(config)
    return {key: found[key] for key in sizes if key in found}


def _pairs(keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Sizes that are multiplied with each other: heads and their size, a width and its ratio or multiple."""
    counts = [key for key in keys if "head" in key and ("num" in key or key.startswith("n_")) and "." not in key]
    for size in (key for key in keys if key in (*_HEAD_SIZES, "cross_attention_head_dim")):
        for count in counts:
            if ("cross" in count) == ("cross" in size):
                yield count, size
    for key in keys:
        if "mlp" in key and "ratio" in key:
            for width in ("hidden_size", "dim", "num_attention_heads", "model_dim"):
                if width in keys:
                    yield width, key
        if "mult." in key and "base_dim" in keys:
            yield "base_dim", key
        if "mult." in key and "decoder_base_dim" in keys:
            yield "decoder_base_dim", key


def _runs(
    cls: Any, recipe: Recipe, config: Config, calls: Sequence[Call], dtype: torch.dtype
) -> tuple[list[tuple[Call, Recorded]], Any]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    asked = {key: value for key, value in config.items() if key in defaults(cls) or key in recipe.config}
    found = getattr(cls, "config_class", None)
    if found is not None and hasattr(found, "model_type"):
        made = found(**{key: config[key] for key in recipe.config})  # others follow from these
        # diffusers' own text encoders call the fused kernel without saying so
        made._attn_implementation = "sdpa" if cls._supports_sdpa else "eager"
        model = build(cls, made, dtype, mode)
    else:
        model = build(cls, asked, dtype, mode)
    tiles = {k: v for k, v in vars(model).items() if _TILES.match(k) and isinstance(v, int | float | bool)}
    gc.collect()
    return [(call, call_class(model, recipe, config, call, dtype, mode)) for call in calls], tiles


def _absent(subject: _Subject) -> dict[str, Any]:
    """What the class takes for keys that a config does not have, where that is not what was measured."""
    usual, config = defaults(subject.cls), subject.config
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in usual.items()
        if key in subject.recipe.config and value != config[key]
    }


def _moments(result: Fitted) -> dict[str, Any]:
    """The candidates for the highest moment."""
    tables = {"peak": result.plain, "once": result.once, "copied": result.copied}
    found = {name: [_terms(result, table) for table in found] for name, found in tables.items()}
    pieces = [dict(zip(FACTS, (_terms(result, fact) for fact in facts), strict=True)) for facts in result.pieces]
    widened = [_terms(result, table) for table in result.widened]
    more = {"pieces": pieces, "widened": widened}
    return {**found, **{name: rows for name, rows in more.items() if rows}}


def _terms(result: Fitted, table: Any) -> dict[str, dict[str, float]]:
    found = {
        name: {size: _short(c) for size, c in zip(result.sizes, row, strict=True) if c}
        for name, row in zip(result.names, table, strict=True)
    }
    return {name: row for name, row in found.items() if row}


def _row(subject: _Subject, result: Fitted, depths: Any, tiles: Any) -> dict[str, Any]:
    sizes, recipe = sizes_of(subject.config), subject.recipe
    fixed = {key: value for key, value in sizes.items() if key not in subject.varied or key in result.refused}
    return {
        "class": subject.name,
        "kind": subject.kind,
        "call": recipe.method,
        "precision": "single" if subject.single else "half",
        "structure": _structure({k: v for k, v in subject.config.items() if k in _WORDS or not recipe.tokens}),
        **({"depths": depths} if depths else {}),
        "sizes": {key: sizes[key] for key in result.keys},
        **({"fixed": fixed} if fixed else {}),
        "absent": _absent(subject),
        **({"text": recipe.text} if recipe.text is not None else {}),
        **{name: dict(limits) for name, limits in (("most", recipe.most), ("over", recipe.over)) if limits},
        **_moments(result),
        "inputs": _terms(result, result.inputs),
        "outputs": _terms(result, result.outputs),
        **({"tiles": tiles} if tiles else {}),
        "worst": float(f"{result.worst:.2g}"),
        "aligned": result.aligned,
        "versions": f"diffusers {diffusers.__version__}, transformers {transformers.__version__}, "
        f"PyTorch {torch.__version__.partition('+')[0]}",
    }


def _short(value: float) -> float:
    number = float(f"{value:.9g}")
    return int(number) if number == int(number) else number


def _structure(config: Config) -> dict[str, Any]:
    """What else a config says: flags, names and lengths of lists."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if key in ("latents_mean", "latents_std") or "eps" in key or "theta" in key or "scaling" in key:
            continue
        if isinstance(value, bool | str) or (isinstance(value, int) and "patch" in key):
            found[key] = value
        elif isinstance(value, list | tuple):
            found[key] = list(value) if value and isinstance(value[0], str) else len(value)
    return found
