"""The table of accelerators and of cloud instances, and how a person's spelling finds a row.

The rows are in `hfmem/data/accelerators.csv` and `instances.csv`; `memory_mib` is what the driver reports (`basis`
reading), or what a driver of its kind leaves of the nominal memory (`basis` nominal). Each row has its source.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Final, Literal, cast

from hfmem.errors import InvalidScenarioError
from hfmem.units import MIB

__all__ = ["Accelerator", "Instance", "Machine", "accelerators", "find", "instances"]

Kind = Literal["discrete", "unified", "cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One accelerator.

    Attributes:
        name: the name that reports use.
        aliases: other spellings.
        vendor: nvidia, amd, intel, apple, google, aws; "" for a processor.
        generation: the vendor's word for its design, lower case (`hopper`, `cdna3`).
        kind: discrete (memory of its own), unified (shares the machine's), or cpu.
        memory: bytes that programs can use, as the driver reports them.
        basis: `reading` of a driver, `nominal` less what drivers of its kind keep, or `detected` in this machine.
        source: where the figure is from.
    """

    name: str
    vendor: str
    generation: str
    kind: Kind
    memory: int
    basis: str
    source: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Accelerators of one kind.

    Attributes:
        accelerator: what they are.
        count: how many; None where only the kind was named.
        instance: the cloud's name for the machine; "" for none.
    """

    accelerator: Accelerator
    count: int | None = None
    instance: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A cloud's machine: `count` accelerators of one name."""

    name: str
    gpu: str
    count: int
    source: str


def _rows(name: str) -> list[dict[str, str]]:
    text = files("hfmem.data").joinpath(name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def accelerators() -> tuple[Accelerator, ...]:
    """Every accelerator of the table, in its order."""
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
        )
        for row in _rows("accelerators.csv")
    )


@cache
def instances() -> tuple[Instance, ...]:
    """Every cloud instance of the table, in its order."""
    return tuple(
        Instance(name=row["name"], gpu=row["gpu"], count=int(row["count"]), source=row["source"])
        for row in _rows("instances.csv")
    )


def find(name: str) -> Machine:
    """The accelerator or cloud instance of a name; `4x H100` and `H100:4` give a count.

    Raises:
        InvalidScenarioError: no row has that name.
    """
    spelled, count = _counted(name)
    key = _key(spelled)
    by_name = _by_name()
    if key in by_name:
        return Machine(accelerator=by_name[key], count=count)
    named = [row for row in instances() if _key(row.name) == key]
    if named:
        row = next((row for row in named if row.name.lower() == spelled.strip().lower()), named[0])
        return Machine(accelerator=by_name[_key(row.gpu)], count=(count or 1) * row.count, instance=row.name)
    close = get_close_matches(key, [*by_name, *(_key(row.name) for row in instances())], n=4, cutoff=0.6)
    shown = list(dict.fromkeys(by_name[near].name if near in by_name else near for near in close))
    near = f"; did you mean {' or '.join(shown)}?" if shown else ""
    raise InvalidScenarioError("", f"--gpu '{name}' is not in the table{near} --list-gpus shows all")


_COUNTED: Final = re.compile(
    r"^(?P<before>\d{1,4})\s*[x×]\s*(?P<rest>.+)$|^(?P<name>.+?)\s*:\s*(?P<after>\d{1,4})$", re.I
)


def _counted(name: str) -> tuple[str, int | None]:
    match = _COUNTED.match(name.strip())
    if match is None:
        return name, None
    count = int(match["before"] or match["after"])
    return match["rest"] or match["name"], count or None


_MAKERS: Final = ("nvidia", "geforce", "tesla", "amd", "intel", "google", "aws")


@cache
def _by_name() -> dict[str, Accelerator]:
    return {_key(spelling): row for row in accelerators() for spelling in (row.name, *row.aliases)}


def _key(name: str) -> str:
    """A spelling without maker, case, blanks and dashes."""
    words = re.sub(r"[^a-z0-9]+", " ", name.lower().replace("+", " ")).split()
    while len(words) > 1 and words[0] in _MAKERS:
        words = words[1:]
    return "".join(words).replace("gib", "gb")
