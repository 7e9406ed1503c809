"""The tables of accelerators and of cloud instances, and the lookup of names.

The rows are in `hfmem/data/accelerators.csv` and `instances.csv`. `memory_mib` is the memory reported by the driver
(`basis` reading), or the nominal memory less what drivers of its kind reserve (`basis` nominal). Each row has its
source, and that of its compute capability and bandwidth. Names are parsed in `spelling.py`.
"""

from __future__ import annotations

import csv
from difflib import get_close_matches
from functools import cache
from typing import Final, cast

from hfmem.data import text as data_text
from hfmem.errors import cut
from hfmem.hardware.spelling import Spelled, budget, counted, spelled
from hfmem.hardware.values import Accelerator, Instance, Kind, Machine
from hfmem.options.run import is_profile
from hfmem.refusals.options import ProfileGpuError, UnknownGpuError
from hfmem.units import GIB, MIB

__all__ = ["accelerators", "find", "instances", "named"]

_SHOWN: Final = 4  # suggestions for an unknown name
_TELLING: Final = 3  # shorter keys are contained in too many names to be useful for suggestions


def _rows(name: str) -> list[dict[str, str]]:
    text = data_text(name)
    return list(csv.DictReader(text.splitlines()))


@cache
def accelerators() -> tuple[Accelerator, ...]:
    """All accelerators in the table, in order."""
    return tuple(
        Accelerator(
            name=row["name"],
            aliases=tuple(filter(None, row["aliases"].split("|"))),
            vendor=row["vendor"],
            generation=row["generation"],
            kind=cast("Kind", row["kind"]),
            memory=int(row["memory_mib"]) * MIB,
            basis=row["basis"],
            source=row["source"],
            nominal_gb=int(row["nominal_gb"]),
            compute_capability=row["compute_capability"],
            bandwidth=round(float(row["bandwidth_gbs"]) * 10**9) if row["bandwidth_gbs"] else None,
            spec_source=row["spec_source"],
        )
        for row in _rows("accelerators.csv")
    )


@cache
def instances() -> tuple[Instance, ...]:
    """All cloud instances in the table, in order."""
    return tuple(
        Instance(name=row["name"], gpu=row["gpu"], count=int(row["count"]), source=row["source"])
        for row in _rows("instances.csv")
    )


def find(name: str) -> Machine:
    """The machine for a name: one or several accelerators, a cloud instance, or a memory budget.

    `4090`, `RTX-4090 24GB`, `2x4090`, `H100:4` and `p5.48xlarge` are looked up in the tables; `24GB`, `24576MiB` and
    `24` are budgets: an accelerator of unknown vendor with this memory.

    Raises:
        UnknownGpuError, ProfileGpuError: an unknown name.
    """
    rest, count = counted(name)
    if is_profile(rest):
        raise ProfileGpuError(name.strip(), "unread" if count is None else "count")
    for text, number in ((name.strip(), None), (rest, count)):
        machine = _of_table(text, number)
        if machine is not None:
            return machine
    size = budget(rest)
    if size is not None:
        return Machine(accelerator=_given(size), count=count)
    raise _unknown(name, cut(rest))


def named(name: str) -> tuple[Accelerator, ...]:
    """The accelerators that a name (without a count) stands for, the default first: variants that differ only in
    memory, restricted to the memory in the name if it has one. () for an unknown name."""
    said = spelled(name)
    key = (said.key, said.size)
    if said.size is not None and key in _sized():
        return (_sized()[key],)
    family = _family(said)
    return family if said.size is None else tuple(row for row in family if row.nominal_gb == said.size)


def _of_table(text: str, count: int | None) -> Machine | None:
    rows = named(text)
    if rows:
        sizes = _sold(rows[1:])
        taken = f"--gpu {text}: the one with {rows[0].nominal_gb} GB is used; it is also sold with {sizes}."
        return Machine(accelerator=rows[0], count=count, note=taken if sizes else "")
    key = spelled(text).key
    same = [row for row in instances() if spelled(row.name).key == key]
    if not same:
        return None
    row = next((row for row in same if row.name.lower() == text.lower()), same[0])
    return Machine(accelerator=named(row.gpu)[0], count=(count or 1) * row.count, instance=row.name)


def _given(size: float) -> Accelerator:
    """A memory budget in GiB, as an accelerator of which nothing else is known."""
    return Accelerator(
        name=f"{size:.2f}".rstrip("0").rstrip(".") + " GiB",
        vendor="",
        generation="",
        kind="discrete",
        memory=round(size * GIB),
        basis="given",
        source="--gpu",
    )


def _unknown(name: str, text: str) -> UnknownGpuError:
    """The error for an unknown name, with suggestions for `text`, the name without a count: the sizes in which it is
    sold, or names that contain it or are similar."""
    said = spelled(text)
    family = _family(said)
    if family:
        return UnknownGpuError(name, sold=_sizes(family))
    names = {key: row.name for key, row in (*_defaults().items(), *_short().items())}
    names |= {spelled(row.name).key: row.name for row in instances()}
    holding = [key for key in names if len(said.key) >= _TELLING and said.key in key]
    alike = get_close_matches(said.key, names, n=_SHOWN, cutoff=0.6)
    return UnknownGpuError(name, alike=list(dict.fromkeys(names[key] for key in (*holding, *alike)))[:_SHOWN])


def _sizes(rows: tuple[Accelerator, ...]) -> list[int]:
    return sorted({row.nominal_gb for row in rows})


def _sold(rows: tuple[Accelerator, ...]) -> str:
    """The memory sizes of accelerators in words: `16, 24 and 32 GB`; "" for none."""
    sizes = [str(size) for size in _sizes(rows)]
    words = " and ".join(filter(None, (", ".join(sizes[:-1]), *sizes[-1:])))
    return f"{words} GB" if words else ""


def _family(said: Spelled) -> tuple[Accelerator, ...]:
    """The variants of a name that differ only in memory, the default first; () for an unknown name."""
    default = _defaults().get(said.key) or _short().get(said.key)
    if default is None:
        return ()
    return (default, *(row for row in _families()[spelled(default.name).key] if row is not default))


@cache
def _spellings() -> tuple[tuple[Spelled, Accelerator], ...]:
    return tuple((spelled(text), row) for row in accelerators() for text in (row.name, *row.aliases))


@cache
def _families() -> dict[str, list[Accelerator]]:
    """The accelerators by the key of their name, without the memory size."""
    found: dict[str, list[Accelerator]] = {}
    for row in accelerators():
        found.setdefault(spelled(row.name).key, []).append(row)
    return found


@cache
def _sized() -> dict[tuple[str, int | None], Accelerator]:
    """The accelerators by (key, memory size), for names that include the memory size."""
    return {(said.key, said.size): row for said, row in _spellings() if said.size is not None}


@cache
def _defaults() -> dict[str, Accelerator]:
    """The accelerators by names without a memory size; if all variants of a name include one, the first variant."""
    found = {said.key: row for said, row in _spellings() if said.size is None}
    for said, row in _spellings():
        found.setdefault(said.key, row)
    return found


@cache
def _short() -> dict[str, Accelerator]:
    """The accelerators by names without memory size and series, if these are unique."""
    found: dict[str, set[str]] = {}
    for said, _ in _spellings():
        for key in said.short_keys:
            found.setdefault(key, set()).add(_defaults()[said.key].name)
    by_name = {row.name: row for row in accelerators()}
    return {key: by_name[name] for key, (name, *others) in found.items() if not others}
