"""What accelerators are: values without the table, which most runs do not read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Accelerator", "Instance", "Kind", "Machine"]

Kind = Literal["discrete", "unified", "cpu"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One accelerator.

    Attributes:
        name: the name that reports use.
        aliases: other spellings.
        vendor: nvidia, amd, intel, apple, qualcomm, google, aws; "" for a processor and for a budget.
        generation: the vendor's word for its design, lower case (`hopper`, `cdna3`).
        kind: discrete (memory of its own), unified (shares the machine's), or cpu.
        memory: bytes that programs can use, as the driver reports them.
        basis: `reading` of a driver, `nominal` less what drivers of its kind keep, `detected` in this machine, or
            `given` as a budget, `absent` where none was found.
        source: where the figure is from.
        nominal_gb: GB that it is sold with, of the whole machine where it shares that memory; 0 where nothing tells.
        compute_capability: NVIDIA's (`8.9`) or AMD's gfx target (`gfx1100`), which decide on number formats; "" for
            other makers and where nothing tells.
        bandwidth: bytes a second between its memory and it, at most; None where nothing tells.
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
        accelerator: what they are.
        count: how many; None where only the kind was named.
        instance: the cloud's name for the machine; "" for none.
        note: which accelerator was taken, where the name stands for several; "" where it does not.
        asked: the word that it was named with.
    """

    accelerator: Accelerator
    count: int | None = None
    instance: str = ""
    note: str = field(default="", compare=False)  # two spellings of one machine are one machine
    asked: str = field(default="", compare=False)

    @property
    def there(self) -> bool:
        """Whether it is known what it is: not where none was found."""
        return self.accelerator.basis != "absent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A cloud's machine: `count` accelerators of one name."""

    name: str
    gpu: str
    count: int
    source: str
