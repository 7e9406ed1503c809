"""Measures one architecture of timm: a row of the table for each precision."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Final

import torch

from hfmem.estimator.activations.grids import spelled
from hfmem.probe.timm.fitting import Fitted, UnfitError, deviation, fit
from hfmem.probe.timm.installed import timm
from hfmem.probe.timm.recording import KINDS, Call, Recorded, built, recorded

__all__ = ["DTYPES", "Subject", "UnmeasuredError", "measure"]

DTYPES: Final = {"half": torch.float16, "single": torch.float32}
"""Precisions; bfloat16 takes what float16 takes."""

_WORST: Final = 0.005
_RGB: Final = 3

_FREE: Final = ((3, 224, 224), (2, 256, 192), (3, 299, 331), (5, 257, 320), (2, 226, 293))
_FREE_CHECK: Final = (4, 300, 161)
_STEPS: Final = ((3, 7, 7), (2, 8, 6), (3, 9, 11), (5, 10, 8), (2, 6, 9))
_STEP_CHECK: Final = (4, 12, 5)
_MULTIPLES: Final = ((3, 1, 1), (2, 2, 1), (3, 1, 2), (5, 2, 2), (2, 3, 1))
_MULTIPLE_CHECK: Final = (4, 1, 3)
_ALONE: Final = ((2, 1, 1), (3, 1, 1))
_ALONE_CHECK: Final = (5, 1, 1)
_SAME: Final = 1e-4

Size = tuple[int, int, int]
Sizes = tuple[Size, ...]


class UnmeasuredError(Exception):
    """An architecture that cannot be measured; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An architecture.

    Attributes:
        name: of `timm.create_model`.
        native: height and width that it is made for.
        fixed: whether its class only takes images of the size that it is built for.
        patch: pixels of a patch's side; 0 without patches.
    """

    name: str
    native: tuple[int, int]
    fixed: bool
    patch: int

    @classmethod
    def of(cls, name: str) -> Subject:
        """An architecture by its name.

        Raises:
            UnmeasuredError: it takes no images of three colours.
        """
        model = built(name, torch.float16, {})
        found = model.pretrained_cfg
        channels, *native = found["input_size"]
        if channels != _RGB:
            raise UnmeasuredError(f"{channels} channels")
        patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
        patch = patch[0] if isinstance(patch, (tuple, list)) else patch or 0
        return cls(name=name, native=(native[0], native[1]), fixed=bool(found.get("fixed_input_size")), patch=patch)

    def run(self, calls: Sequence[Call], precision: str) -> list[Recorded]:
        """Forward passes; where the class takes one size only, of a model for each size."""
        return list(self._runs(calls, DTYPES[precision]))

    def buffers(self, precision: str) -> int:
        """Bytes of the buffers that the class computes, and that no file has: masks of windows, tables of positions."""
        model = built(self.name, DTYPES[precision], {})
        stored = model.state_dict().keys()
        return sum(x.numel() * x.element_size() for name, x in model.named_buffers() if name not in stored)

    def _runs(self, calls: Sequence[Call], dtype: torch.dtype) -> Iterator[Recorded]:
        models: dict[tuple[int, int], Any] = {}
        for call in calls:
            size = (call.height, call.width)
            key = size if self.fixed else self.native
            if key not in models:
                arguments = {"img_size": size} if self.fixed and size != self.native else {}
                models = {key: built(self.name, dtype, arguments)}
            yield recorded(models[key], call, dtype)


def _ways(subject: Subject) -> Iterator[tuple[tuple[int, int], Sizes, Size]]:
    """Units of sides to try, with sizes to measure and one to check, the most general first."""
    height, width = subject.native
    if not subject.fixed:
        yield (1, 1), _FREE, _FREE_CHECK
        yield (32, 32), _STEPS, _STEP_CHECK
    elif subject.patch >= _LEAST_PATCH:
        near = height // subject.patch
        steps = tuple((batch, near + more, near + wider) for batch, more, wider in _NEAR)
        yield (subject.patch, subject.patch), steps, (4, near + 5, near - 1)
    yield (height, width), _MULTIPLES, _MULTIPLE_CHECK
    yield (height, width), _ALONE, _ALONE_CHECK


_LEAST_PATCH: Final = 8  # smaller ones are of windows' networks, which take multiples of windows
_NEAR: Final = ((3, 0, 0), (2, 2, 1), (3, -1, 3), (5, 4, 6), (2, -3, -2))


def _call(unit: tuple[int, int], size: Size) -> Call:
    return Call(batch=size[0], height=size[1] * unit[0], width=size[2] * unit[1])


def measure(name: str) -> list[dict[str, Any]]:
    """The rows of an architecture, one for each precision.

    Raises:
        UnmeasuredError: there are no polynomials that hold.
    """
    subject = Subject.of(name)
    reasons: list[str] = []
    for unit, sizes, check in _ways(subject):
        calls = [_call(unit, size) for size in sizes]
        try:
            return _rows(subject, unit, calls, _call(unit, check))
        except UnfitError as error:
            reasons.append(str(error))
        except Exception as error:
            reasons.append(f"{type(error).__name__}: {error}")
    raise UnmeasuredError("; ".join(reason[:120] for reason in reasons))


def _rows(subject: Subject, unit: tuple[int, int], calls: Sequence[Call], check: Call) -> list[dict[str, Any]]:
    several = subject.run([*calls, check], "half")
    lone = subject.run([replace(calls[0], batch=1)], "half")
    alone = len({(call.height, call.width) for call in calls}) == 1
    realistic = [*_realistic(subject, unit, alone=alone), *calls, check]
    if _off(fit(several[:-1], realistic), lone) > _SAME:  # a batch of one needs no copies that a larger one needs
        lone = subject.run([replace(call, batch=1) for call in calls], "half")
    sides = [side for run in several for side in (run.call.height, run.call.width)]
    shared = {
        "native": list(subject.native),
        "fixed": subject.fixed,
        "unit": list(unit),
        "least": min(sides),
        **({"alone": True} if alone else {}),
    }
    found = []
    for precision in DTYPES:
        tables, off = _tables(subject, precision, several, realistic)
        if len(lone) > 1:
            few = [replace(call, batch=1) for call in realistic]
            ones = _in(subject, precision, lone)
            one = fit(ones, few)
            tables |= {"lone": _spelled(one)}
            off = max(off, _off(one, ones))
        held = {"buffers": buffers} if (buffers := subject.buffers(precision)) else {}
        found.append({"network": subject.name, "precision": precision, **shared, **held, **tables, "off": off})
    return found


def _tables(
    subject: Subject, precision: str, halves: Sequence[Recorded], realistic: Sequence[Call]
) -> tuple[dict[str, Any], float]:
    runs = _in(subject, precision, halves)
    found = fit(runs[:-1], realistic)
    return _spelled(found), float(f"{_off(found, runs):.2g}")


def _off(found: Fitted, runs: Sequence[Recorded]) -> float:
    """How far it is off.

    Raises:
        UnfitError: too far.
    """
    off = deviation(found, runs)
    if off > _WORST and len(runs) > 1:
        raise UnfitError(f"{off:.2%} off")
    return off


def _spelled(found: Fitted) -> dict[str, Any]:
    return {kind: [spelled(one) for one in getattr(found, kind)] for kind in KINDS}


def _in(subject: Subject, precision: str, halves: Sequence[Recorded]) -> Sequence[Recorded]:
    return halves if precision == "half" else _single(subject, halves)


def _single(subject: Subject, halves: Sequence[Recorded]) -> list[Recorded]:
    """The passes in float32: where one does the same operations as in half precision, each storage that is smaller in
    half precision grows by as much in the others.

    Raises:
        UnfitError: it does others.
    """
    *same, last = halves
    wide = subject.run([last.call], "single")[0]
    if (wide.ops, wide.moments, len(wide.sizes)) != (last.ops, last.moments, len(last.sizes)):
        return subject.run([run.call for run in halves], "single")
    factors = [a // b if b and a in (b, 2 * b) else 0 for a, b in zip(wide.sizes, last.sizes, strict=True)]
    if not all(factors):
        return subject.run([run.call for run in halves], "single")
    scaled = [
        replace(run, sizes=tuple(size * factor for size, factor in zip(run.sizes, factors, strict=True)))
        for run in same
    ]
    return [*scaled, wide]


def _realistic(subject: Subject, unit: tuple[int, int], *, alone: bool) -> list[Call]:
    """Calls for which the highest moments are kept."""
    height, width = subject.native
    sizes = [(height, width)]
    if not alone:
        sizes += [(height * n // 2, width * m // 2) for n, m in itertools.product((1, 2, 3, 4, 6, 8), repeat=2)]
        sizes += [(96, 96), (224, 224), (299, 299), (480, 640), (1024, 1024)]
    whole = {(max(1, h // unit[0]) * unit[0], max(1, w // unit[1]) * unit[1]) for h, w in sizes}
    return [Call(batch=b, height=h, width=w) for b in (1, 2, 4, 16, 64, 256) for h, w in sorted(whole)]


def versions() -> str:
    """What is measured, and with what."""
    return f"timm {timm.__version__}, PyTorch {version('torch').partition('+')[0]}"


def header() -> Mapping[str, str]:
    """The first line of tables that are made of timm."""
    return {"source": versions()}
