"""How much of a model goes on accelerators where not all of it fits: by bisection on the estimate itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hfmem.engines.llamacpp.allocator import HOST
from hfmem.engines.llamacpp.memory import Memory, least_of, memory_of
from hfmem.engines.llamacpp.options import ALL_LAYERS
from hfmem.engines.llamacpp.settings import LlamaSettings, server_of
from hfmem.engines.llamacpp.tower import tower_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.serving import Offload
from hfmem.mapper.gguf.layout import Blocks
from hfmem.mapper.interpret import Model

__all__ = ["most_offloaded"]


def most_offloaded(
    model: Model, scenario: Scenario, devices: int, margin: int, line: Callable[[Memory], str]
) -> Offload | None:
    """All of the model; else all but the experts of as few layers as possible, which costs less time than whole layers
    on the host; else as many layers as fit, each with `margin` bytes to spare. None where not even one fits, or a part
    is not known.

    Args:
        model: the file.
        scenario: with the accelerator.
        devices: how many there are.
        margin: bytes of each that should stay free.
        line: what starts it.
    """
    blocks = model.blocks
    if not devices or scenario.gpu is None or blocks is None:
        return None
    run = _Run(model, blocks, scenario, devices, line)
    room = scenario.available - margin
    every = blocks.count + 1
    if run.fits(every, 0, room):
        return run.found(every, 0)
    if blocks.mixed and not run.ollama:
        fewest = run.fewest(every, room)
        if fewest is not None:
            return run.found(every, fewest)
    most = run.most(room)
    return run.found(most, 0) if most else None


def _least(holds: Callable[[int], bool], most: int, first: int = 1) -> int:
    """The smallest number from `first` to `most` for which it holds, one more than `most` for none; it holds for all
    above one for which it does. The first is tried first."""
    if first <= most and holds(first):
        return first
    if first >= most or not holds(most):
        return most + 1
    low, high = first, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _most(holds: Callable[[int], bool], most: int) -> int:
    """The largest number up to `most` for which it holds, 0 for none; it holds for all below one for which it does."""
    low, high = 0, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


class _Run:
    """A file on the accelerators of a scenario, for any number of layers there."""

    def __init__(
        self, model: Model, blocks: Blocks, scenario: Scenario, devices: int, line: Callable[[Memory], str]
    ) -> None:
        self.line = line
        self.server = server_of(scenario)
        self.mmproj = tower_of(model, scenario)
        self.blocks, self.architecture, self.scenario, self.devices = blocks, model.architecture, scenario, devices
        self.ollama = bool(self.server.defaults.title)
        """Whether Ollama runs it, which moves whole layers only."""
        self._known: dict[tuple[int, int], Memory] = {}
        self._without: dict[tuple[int, int], Memory] = {}

    def memory(self, layers: int, experts: int) -> Memory:
        """The memory with so many layers there, and the experts of so many on the host."""
        if (layers, experts) not in self._known:
            settings = self._settings(layers, experts)
            found = memory_of(self.blocks, self.architecture, settings, self.scenario, self.devices)
            self._known[layers, experts] = found
        return self._known[layers, experts]

    def _settings(self, layers: int, experts: int) -> LlamaSettings:
        settings = self.server.of(
            self.scenario, n_gpu_layers=ALL_LAYERS if layers > self.blocks.count else layers, n_cpu_moe=experts
        )
        return replace(settings, mmproj=self.mmproj)

    def fewest(self, every: int, room: int) -> int | None:
        """The fewest layers whose experts stay on the host, with all else on the accelerators; None where that does
        not fit. Compute buffers take time and differ little: those of a first guess lead to the second."""
        count = self.blocks.count
        first = _least(lambda experts: self.may_fit(every, experts, room), count)
        if first > count:
            return None
        more = self._more(every, first)
        second = _least(lambda experts: self.may_fit(every, experts, room, more), count, first)
        found = _least(lambda experts: self.fits(every, experts, room), count, second)
        return found if found <= count else None

    def most(self, room: int) -> int:
        """The most layers that fit; 0 for none."""
        first = _most(lambda layers: self.may_fit(layers, 0, room), self.blocks.count)
        if not first:
            return 0
        more = self._more(first, 0)
        second = _most(lambda layers: self.may_fit(layers, 0, room, more), first)
        if second and self.fits(second, 0, room):
            low = second
            while low < first and self.fits(low + 1, 0, room):
                low += 1
            return low
        return _most(lambda layers: self.fits(layers, 0, room), second)

    def _more(self, layers: int, experts: int) -> int:
        """What compute buffers add to the accelerator that they are largest on."""
        memory, least = self.memory(layers, experts), self._least(layers, experts)
        return max(memory.total(place) - least.total(place) for place in range(self.devices))

    def may_fit(self, layers: int, experts: int, room: int, more: int = 0) -> bool:
        """Whether each accelerator has room for its part without compute buffers, or with so many bytes of them."""
        least = self._least(layers, experts)
        return all(least.total(place) + more <= room for place in range(self.devices))

    def _least(self, layers: int, experts: int) -> Memory:
        if (layers, experts) not in self._without:
            settings = self._settings(layers, experts)
            found = least_of(self.blocks, self.architecture, settings, self.scenario, self.devices)
            self._without[layers, experts] = found
        return self._without[layers, experts]

    def fits(self, layers: int, experts: int, room: int) -> bool:
        """Whether each accelerator has room for its part."""
        if not self.may_fit(layers, experts, room):
            return False
        memory = self.memory(layers, experts)
        return not memory.unknown and all(memory.total(place) <= room for place in range(self.devices))

    def found(self, layers: int, experts: int) -> Offload:
        """The answer for these numbers."""
        memory = self.memory(layers, experts)
        option = "-ngl all" if layers > self.blocks.count else f"-ngl {layers}"
        option = f"num_gpu {layers}" if self.ollama else option
        return Offload(
            layers=layers,
            of=self.blocks.count + 1,
            experts_on_host=experts,
            total=max(memory.total(place) for place in range(self.devices)),
            host=memory.total(HOST),
            option=f"{option} --n-cpu-moe {experts}" if experts else option,
            command=self.line(memory),
        )
