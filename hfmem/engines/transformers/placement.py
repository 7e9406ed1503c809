"""Where transformers puts each module for `device_map="auto"`: its own derivation, for machines without Accelerate.

The rules are those of transformers 5.24.0, integrations/accelerate.py (`get_balanced_memory`, `infer_auto_device_map`),
which `pytest -m oracle tests/oracle/test_device_map.py` holds against this. In words: modules are put in their order on
the first device; one that does not fit is opened and its parts are tried, unless its class is never split; then the
next device is taken. The first accelerator and the host keep room for the largest module that is left.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from hfmem.mapper.modules import Device, Module, Modules

__all__ = ["balanced", "placed", "within"]

_LEFT: Final = 0.9  # of one accelerator's free memory, and of the host's, where the user sets no limits
_BUFFER: Final = 1.25  # of the largest module, beyond an equal share

_Queue = list[Module]


def within(free: Mapping[Device, float], way: str, *, asked: bool) -> dict[Device, float]:
    """Bytes that may be used of each device, of those that are free: all that the user asked for, otherwise nine tenths
    of the host and of a single accelerator, unless the way is `sequential`."""
    limits = dict(free)
    if asked:
        return limits
    if "cpu" in limits:
        limits["cpu"] *= _LEFT
    numbers = [device for device in limits if isinstance(device, int)]
    if way != "sequential" and len(_accelerators(limits)) == 1 and numbers:
        limits[numbers[0]] *= _LEFT
    return limits


def _accelerators(limits: Mapping[Device, float]) -> list[Device]:
    return [device for device, room in limits.items() if device not in ("cpu", "disk") and room > 0]


def balanced(modules: Modules, limits: Mapping[Device, float], way: str) -> dict[Device, float]:
    """The limits, with equal shares for several accelerators but the last one; `balanced_low_0` leaves the first one as
    little as the others have no room for."""
    room = dict(limits)
    count = len(_accelerators(room))
    if way == "sequential" or not count:
        return room
    low = way == "balanced_low_0" and count > 1
    total = modules.root.nbytes
    share = total // (count - 1 if low else count) + int(_BUFFER * _biggest(modules.root))
    numbers = sorted(device for device, size in room.items() if isinstance(device, int) and size > 0)
    for device in numbers[:-1]:
        room[device] = min(room[0] if low and device == 0 else share, room[device])
    if low:
        rest = max(0, total - sum(room[device] for device in range(1, count)))
        room[0] = min(rest, room[0])
    return room


def _biggest(root: Module) -> float:
    """Bytes of the largest module that is never split, or that has tensors of its own."""
    return max(root.largest, max((one.nbytes for one in root.walk() if one.whole), default=0))


def placed(modules: Modules, limits: Mapping[Device, float], *, clean: bool = True) -> dict[str, Device]:
    """The device of each module; modules whose parts are all on one device are named as a whole."""
    run = _Run(modules=modules, limits=limits)
    run.place()
    return _joined(run.found) if clean else run.found


@dataclass(slots=True, kw_only=True)
class _Run:
    """A placement in progress.

    Attributes:
        queue: modules that are still to be placed.
        used: bytes used of each device.
        reserve: bytes of the largest module that is left, with its namesakes.
    """

    modules: Modules
    limits: Mapping[Device, float]
    queue: _Queue = field(default_factory=list)
    used: dict[Device, float] = field(default_factory=dict)
    found: dict[str, Device] = field(default_factory=dict)
    reserve: float = 0
    largest: list[str] = field(default_factory=list)
    at: int = 0

    @property
    def devices(self) -> list[Device]:
        return [*self.limits, *(() if "disk" in self.limits else ("disk",))]

    @property
    def keeping(self) -> tuple[Device, ...]:
        """Devices that keep room for the largest module."""
        accelerators = [device for device in self.limits if device not in ("cpu", "disk")]
        return ("mps",) if "mps" in accelerators else (*accelerators[:1], "cpu")

    def place(self) -> None:
        root = self.modules.root
        self.queue = [*root.parameters, *root.children, *root.buffers]
        self._measure(self.queue)
        while self.queue:
            module = self.queue.pop(0)
            self.largest = [name for name in self.largest if not f"{name}.".startswith(f"{module.name}.")]
            if not self.largest:
                self._measure(one for one in self.queue if not one.tensor)
            self._treat(module)

    def _measure(self, modules: Iterable[Module]) -> None:
        """The largest module among some that would be placed as a whole."""
        leaves = [leaf for module in modules for leaf in _leaves(module)]
        self.reserve = max((leaf.nbytes for leaf in leaves), default=0)
        self.largest = [leaf.name for leaf in leaves if leaf.nbytes == self.reserve]

    def _treat(self, module: Module) -> None:
        device = self.devices[self.at]
        room = None if device == "disk" else self.limits[device]
        kept = self.reserve if device in self.keeping else 0
        if room is not None:
            room -= kept
        used = self.used.get(device, 0)
        others = self._tied(module)
        together = module.nbytes + sum(other.nbytes for other in others)
        if room is None or used + together <= room:
            self.used[device] = used + together
            for one in (module, *others):
                self.found[one.name] = device
            self.queue = [one for one in self.queue if all(one is not other for other in others)]
        elif others and used + module.nbytes <= room and self._opened(module, others):
            pass
        elif module.divisible:
            self._open(module)
        else:
            self.used[device] = used + kept
            self.at += 1
            self.queue.insert(0, module)

    def _tied(self, module: Module) -> list[Module]:
        """Modules that are left and hold tensors which are tied to this one's."""
        groups = [
            group
            for group in self.modules.tied
            if any(_is_in(name, module.name) for name in group) and not all(_is_in(name, module.name) for name in group)
        ]
        names = [name for group in groups for name in group if not _is_in(name, module.name)]
        found: list[Module] = []
        for name in names:
            other = next((one for one in self.queue if name.startswith(f"{one.name}.")), None)
            if other is not None and all(other is not one for one in found):
                found.append(other)
        return found

    def _opened(self, module: Module, others: Sequence[Module]) -> bool:
        """Whether one of the tied modules could be opened, so that less has to lie beside this one."""
        other = next((one for one in others if one.divisible), None)
        if other is None:
            return False
        at = next(index for index, one in enumerate(self.queue) if one is other)
        self.queue = [module, *self.queue[:at], *other.parameters, *other.children, *self.queue[at + 1 :]]
        self._measure(one for one in self.queue if not one.tensor)
        return True

    def _open(self, module: Module) -> None:
        """The parts of a module in its place; its own buffers go along with it unplaced."""
        self.queue = [*module.parameters, *module.children, *self.queue]
        self._measure(one for one in self.queue if not one.tensor)


def _is_in(name: str, module: str) -> bool:
    """Whether a tensor or module is a module or in it, by its name."""
    return f"{module}." in f"{name}."


def _leaves(module: Module) -> Iterable[Module]:
    if not module.divisible:
        yield module
        return
    for child in module.children:
        yield from _leaves(child)


def _joined(found: dict[str, Device], name: str = "") -> dict[str, Device]:
    """The same with modules as a whole where all in them is on one device."""
    prefix = f"{name}." if name else ""
    inside = [key for key in found if key.startswith(prefix)]
    if len(inside) > 1 and len({found[key] for key in inside}) == 1:
        device = found[inside[0]]
        for key in inside:
            del found[key]
        found[name] = device
    depth = len(name.split(".")) + 1 if name else 1
    for child in {".".join(key.split(".")[:depth]) for key in found if key.startswith(prefix) and len(key) > len(name)}:
        _joined(found, child)
    return found
