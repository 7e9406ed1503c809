"""Records the graphs of an architecture: its steps, with each size as a formula of the values of a file's keys."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from hfmem.probe.llamacpp import specimens
from hfmem.probe.llamacpp.library import Asked, LlamaError, apart, library
from hfmem.probe.llamacpp.simplified import Step, Steps, simplified
from hfmem.probe.llamacpp.specimens import Specimen
from hfmem.probe.llamacpp.symbols import Formula, UnfitError, fitted

__all__ = ["BASE", "SETTINGS", "Recorded", "recorded"]

BASE: Final = Asked(n_ctx=32768, n_ubatch=512, n_seq_max=1, n_outputs_max=8)
SETTINGS: Final[Mapping[str, Asked]] = {
    "flash": BASE,
    "eager": replace(BASE, flash="off"),
    "flash+keys": replace(BASE, type_k="q8_0"),
    "flash+values": replace(BASE, type_v="q8_0"),
    "flash+keys+values": replace(BASE, type_k="q8_0", type_v="q8_0"),
    "eager+keys": replace(BASE, flash="off", type_k="q8_0"),
}
"""Settings under which a graph may have other steps: flash attention on or off, quantised keys, quantised values."""

_FIXED: Final = {
    "context_length",
    "block_count",
    "decoder_start_token_id",
    "leading_dense_block_count",
    "attention.sliding_window_pattern",
    "full_attention_interval",
    "nextn_predict_layers",
    "decoder_block_count",
    "expert_gating_func",
}
_BY_THREE: Final = {"attention.key_length", "attention.value_length"}  # the matrices that turn quantised keys stay
_EMBEDDING, _KV = "embedding_length", "attention.head_count_kv"
_VALUE, _ROPE = "attention.value_length", "rope.dimension_count"
_TIES: Final[Mapping[str, tuple[tuple[str, ...], ...]]] = {
    "attention.head_count": ((), (_KV,), (_EMBEDDING,), (_EMBEDDING, _KV)),
    "attention.key_length": (
        (),
        (_VALUE,),
        (_ROPE,),
        (_VALUE, _ROPE),
        (_EMBEDDING,),
        (_VALUE, _EMBEDDING),
        (_VALUE, _ROPE, _EMBEDDING),
    ),
    "attention.kv_lora_rank": ((), ("attention.key_length", _VALUE)),
    "rope.dimension_count": ((), ("attention.key_length", "attention.key_length_mla")),
    "ssm.inner_size": ((), (_EMBEDDING,), ("ssm.time_step_rank",)),
    "ssm.time_step_rank": ((), ("ssm.inner_size",)),
    "ssm.state_size": ((), ("ssm.inner_size",)),
}
"""Values that change together where one alone is refused."""
_WINDOW: Final = "n_kv_swa"
_KEYS: Final = {_WINDOW: "attention.sliding_window"}
"""The key that changes a value which follows from it."""
_RUNTIME: Final = {"n_kv": "n_ctx", "n_tokens": "n_ubatch", "n_seqs": "n_seq_max", "n_outputs": "n_outputs_max"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The graph of one setting, and a formula for each step that allocates."""

    steps: Steps
    inputs: tuple[Formula | None, ...]
    sizes: tuple[Formula | None, ...]
    unfit: tuple[str, ...]


_INNER, _STEPS, _STATE = "ssm.inner_size", "ssm.time_step_rank", "ssm.state_size"


def linked(keys: Mapping[str, Any]) -> frozenset[str]:
    """Keys that follow from others: sizes of the cache's head from the latent's, where a file keeps the latent; the
    inner size of states whose heads are as large as the state."""
    found = {"attention.key_length", "attention.value_length"} if "attention.key_length_mla" in keys else set()
    if _INNER in keys and keys[_INNER] == keys.get(_STEPS, 0) * keys.get(_STATE, 0):
        found.add(_INNER)
    return frozenset(found)


def _followed(keys: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """The keys with those that follow from the others made so."""
    if _INNER in names:
        keys[_INNER] = keys[_STEPS] * keys[_STATE]
    if "attention.key_length" in names:
        rank = keys["attention.kv_lora_rank"]
        keys |= {"attention.key_length": rank + keys["rope.dimension_count"], "attention.value_length": rank}
    return keys


def padded(number: int, to: int = 256) -> int:
    return -(-number // to) * to


class _Runs:
    """Runs of one specimen under changed values, each once."""

    def __init__(self, specimen: Specimen, path: Path) -> None:
        self.specimen, self.path = specimen, path
        self._found: dict[frozenset[str], tuple[dict[str, int], dict[str, Steps]] | None] = {}
        self._ways: dict[str, tuple[int, tuple[str, ...]]] = {}
        first = self.get(frozenset())
        if first is None:
            raise LlamaError("the specimen has no graph")
        self.first = first

    def get(self, changed: frozenset[str]) -> tuple[dict[str, int], dict[str, Steps]] | None:
        if changed not in self._found:
            self._found[changed] = self._run(changed, self._ways) if changed <= self._ways.keys() else None
        return self._found[changed]

    def movable(self, name: str) -> bool:
        """Whether a value can be changed, alone or with those that follow it; how, is kept."""
        for factor in (3, 2) if name in _BY_THREE else (2, 3):
            for ties in _TIES.get(name, ((),)):
                if not set(ties) <= self.specimen.keys.keys():
                    continue
                ways = {**self._ways, name: (factor, ties)}
                run = self._run(frozenset((name,)), ways)
                if run is not None and all(
                    alike(run[1][word], self.first[1][word]) for word in self.first[1] if word in run[1]
                ):
                    self._ways, self._found[frozenset((name,))] = ways, run
                    return True
        return False

    def _run(
        self, changed: frozenset[str], ways: Mapping[str, tuple[int, tuple[str, ...]]]
    ) -> tuple[dict[str, int], dict[str, Steps]] | None:
        keys = dict(self.specimen.keys)
        for name in sorted(changed - set(_RUNTIME)):
            factor, ties = ways[name]
            for each in (_KEYS.get(name, name), *ties):
                keys[each] = _times(keys[each], factor)
        keys = _followed(keys, linked(self.specimen.keys))
        asked = {field: getattr(BASE, field) * 2 for name, field in _RUNTIME.items() if name in changed}
        try:
            specimen = self.specimen
            if changed - set(_RUNTIME):
                specimen = apart(
                    lambda: specimens.discovered(
                        self.specimen.architecture, keys, self.path, specimens.loads, tensors=self.specimen.tensors
                    )
                )
            specimen.write(self.path)
            graphs = _graphs(self.path, asked)
        except LlamaError:
            return None
        return (values_of(specimen, replace(BASE, **asked)), graphs) if graphs else None


def values_of(specimen: Specimen, asked: Asked) -> dict[str, int]:
    """Every value that a formula may have, of the specimen's file and the settings."""
    values = {key: _number(value) for key, value in specimen.keys.items() if _number(value)}
    values |= {name: getattr(asked, field) for name, field in _RUNTIME.items()}
    blocks = specimen.blocks()
    window = blocks.window if blocks is not None else None
    if window:
        values[_WINDOW] = padded(min(asked.n_ctx, window * asked.n_seq_max + asked.n_ubatch))
    return values


def _number(value: Any) -> int:
    if isinstance(value, list):
        return max((item for item in value if type(item) is not bool and isinstance(item, int)), default=0)
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else 0


def _times(value: Any, factor: int) -> Any:
    if isinstance(value, list):
        return [type(item)(item * factor) for item in value]
    return type(value)(value * factor)


def _graphs(path: Path, asked: Mapping[str, Any]) -> dict[str, Steps]:
    """The graphs of all settings that the file runs under; some stop llama.cpp by an assertion."""
    try:
        return apart(lambda: _refused_apart(path, SETTINGS, asked))
    except LlamaError:
        found: dict[str, Steps] = {}
        for word, setting in SETTINGS.items():
            try:
                found |= apart(lambda: _refused_apart(path, {word: setting}, asked))  # noqa: B023 - called at once
            except LlamaError:
                continue
        return found


def _refused_apart(path: Path, settings: Mapping[str, Asked], asked: Mapping[str, Any]) -> dict[str, Steps]:
    """The graphs of the settings that llama.cpp does not refuse."""
    found: dict[str, Steps] = {}
    for word, setting in settings.items():
        try:
            found[word] = simplified(library().graph(path, replace(setting, **asked)))
        except LlamaError:
            continue
    return found


def recorded(specimen: Specimen, path: Path) -> dict[str, Recorded]:
    """The graphs of a specimen under each setting."""
    runs = _Runs(specimen, path)
    values, graphs = runs.first
    # windows before what changes them too
    names = [_WINDOW] if _WINDOW in values else []
    fixed = _FIXED | linked(specimen.keys) | {"attention.sliding_window"}
    names += [key for key in specimen.keys if key in values and key not in fixed and key not in names]
    names += ["n_kv", "n_outputs", "n_tokens", "n_seqs"]
    stuck = tuple(name for name in names if not runs.movable(name))
    names = [name for name in names if name not in stuck]
    if stuck:
        print("    stuck:", *stuck, file=sys.stderr)
    return {word: _fit(runs, word, graph, names) for word, graph in graphs.items()}


def _fit(runs: _Runs, word: str, graph: Steps, names: Sequence[str]) -> Recorded:
    unfit: list[str] = []

    def formula(kind: str, place: int, step: Step) -> Formula | None:
        if step.nbytes is None:
            return None

        def sizes(changed: frozenset[str]) -> tuple[Mapping[str, int], int] | None:
            run = runs.get(changed)
            if run is None or word not in run[1] or not alike(run[1][word], graph):
                return None
            size = getattr(run[1][word], kind)[place].nbytes
            return run[0], size

        try:
            return fitted(sizes, names, _WINDOW)
        except UnfitError as error:
            unfit.append(f"{step.name}: {error}")
            return None

    return Recorded(
        steps=graph,
        inputs=tuple(_turning(step, formula("inputs", place, step)) for place, step in enumerate(graph.inputs)),
        sizes=tuple(formula("steps", place, step) for place, step in enumerate(graph.steps)),
        unfit=tuple(unfit),
    )


def _turning(step: Step, formula: Formula | None) -> Formula | None:
    """The matrix that turns quantised keys is as large as the largest power of two that divides their size."""
    if "_k_rot" in step.name and formula is not None and len(formula) == 1 and not formula[0][1]:
        return ((Fraction(4), ("n_rot_k", "n_rot_k")),)
    return formula


def alike(one: Steps, other: Steps) -> bool:
    """Whether two graphs differ in sizes alone."""

    def shape(steps: Steps) -> list[Any]:
        return [(step.op, step.reads, step.replaces, step.nbytes is None) for step in (*steps.inputs, *steps.steps)]

    return shape(one) == shape(other)
