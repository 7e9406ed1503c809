"""Accelerators as values, separate from the table, which most runs do not need."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Accelerator", "Instance", "Kind", "Machine"]

Kind = Literal["discrete", "unified", "cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One accelerator.

    Attributes:
        name: its name in reports.
        aliases: other spellings.
        vendor: nvidia, amd, intel, apple, qualcomm, google, aws; "" for CPUs and memory budgets.
        generation: the vendor's architecture name in lower case (`hopper`, `cdna3`).
        kind: discrete (dedicated memory), unified (shares the machine's memory), or cpu.
        memory: bytes usable by programs, as reported by the driver.
        basis: `reading` of a driver, `nominal` less what drivers of its kind reserve, `detected` in this machine,
            `given` as a budget, or `absent` if none was found.
        source: where the figure is from.
        nominal_gb: GB it is sold with (of the whole machine for unified memory); 0 if unknown.
        compute_capability: NVIDIA's (`8.9`) or AMD's gfx target (`gfx1100`), which determine supported number formats;
            "" for other vendors and if unknown.
        bandwidth: peak memory bandwidth in bytes per second; None if unknown.
        spec_source: where compute capability and bandwidth are from.
    """

    name: str
    vendor: str
    generation: str
    kind: Kind
    memory: int
    basis: str
    source: str
    aliases: tuple[str, ...] = ()
    nominal_gb: int = 0
    compute_capability: str = ""
    bandwidth: int | None = None
    spec_source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Accelerators of one kind.

    Attributes:
        accelerator: the accelerator.
        count: how many; None if no count was given.
        instance: name of the cloud instance; "" for none.
        note: which variant is used, if the name is ambiguous; "" otherwise.
        asked: the name as given by the user.
    """

    accelerator: Accelerator
    count: int | None = None
    instance: str = ""
    note: str = field(default="", compare=False)  # two spellings of one machine are one machine
    asked: str = field(default="", compare=False)

    @property
    def there(self) -> bool:
        """Whether there is an accelerator: False for the placeholder of a machine without one."""
        return self.accelerator.basis != "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A cloud instance with `count` accelerators of one kind."""

    name: str
    gpu: str
    count: int
    source: str
