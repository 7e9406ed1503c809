"""`--gpu me`: the hardware saved on the user's Hub profile, in the words of the table of accelerators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hfmem.fetcher.profile import Owned, saved_hardware
from hfmem.fetcher.values import Access
from hfmem.hardware.table import named
from hfmem.options.otherwise import Otherwise
from hfmem.options.run import is_profile
from hfmem.refusals.options import ProfileGpuError
from hfmem.scenario.options import Options

__all__ = ["with_profile", "without_profile"]


def with_profile(options: Options, access: Access) -> Options:
    """The options with the saved accelerators in place of `me`, and a remark on what they are.

    Raises:
        ProfileGpuError: there is no such hardware, or it cannot be read.
    """
    asked = next((name for name in options.gpu if is_profile(name)), None)
    if asked is None:
        return options
    user, items = saved_hardware(asked, access)
    names, remarks = _named(asked, user, items)
    gpu: list[str] = []
    for name in options.gpu:
        gpu += names if is_profile(name) else [name]
    return replace(options, gpu=tuple(dict.fromkeys(gpu)), remarks=(*options.remarks, *remarks))


def without_profile(options: Options, why: str) -> Options:
    """The options without `me`, and a remark on why."""
    others = tuple(name for name in options.gpu if not is_profile(name))
    return replace(options, gpu=others, remarks=(*options.remarks, Otherwise(why)))


def _named(asked: str, user: str, items: Sequence[Owned]) -> tuple[list[str], list[str]]:
    """The values of `--gpu` for some hardware, and sentences on them. A CPU counts only where there is nothing else."""
    chosen = [item for item in items if item.kind != "cpu"] or items
    words = [(item, _spelled(item)) for item in chosen]
    names = [name for _, name in words if name]
    unknown = [item for item, name in words if not name]
    if not names:
        raise ProfileGpuError(asked, "unknown", user=user, owned=tuple((item.name, item.memory) for item in unknown))
    remarks = [f"--gpu {asked}: {', '.join(names)}, as saved on the Hub profile of {user}."]
    if unknown:
        left = ", ".join(f"{item.name} with {item.memory} GB" for item in unknown)
        remarks.append(Otherwise(f"--gpu {asked} leaves out {left}, which the table does not have."))
    return names, remarks


def _spelled(item: Owned) -> str:
    """The value of `--gpu` for hardware; "" for what the table does not have. A card that it does not have is a budget
    of its memory, which unified memory cannot be, as its system needs a part of it."""
    if item.kind == "cpu":
        return f"cpu {item.memory}GB"
    count = f"{item.count}x " if item.count > 1 else ""
    exact = next((row for row in named(item.name) if row.nominal_gb == item.memory), None)
    if exact is not None:
        sized = f"{item.name} {item.memory}GB"
        return count + (sized if named(sized)[:1] == (exact,) else exact.name)
    return f"{count}{item.memory}GB" if item.kind == "gpu" else ""
