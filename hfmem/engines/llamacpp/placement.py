"""Which device has which layer and which tensor (`llama_model_base::load_tensors`)."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from hfmem.engines.llamacpp.allocator import HOST
from hfmem.engines.llamacpp.settings import LlamaSettings
from hfmem.mapper.gguf.layout import Blocks, GgufTensor

__all__ = ["Placement"]

_EXPERTS: Final = re.compile(r"ffn_(up|down|gate|gate_up)_(ch|)exps")
"""What `--n-cpu-moe` moves (`llm_ffn_exps_block_regex` of common.h)."""


def _float(number: float) -> float:
    """As a float of the C source, whose rounding decides at the edges."""
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A file on devices.

    Attributes:
        blocks: the file.
        settings: how it is run.
        free: free memory of each accelerator, which shares the layers where no `tensor_split` does.
    """

    blocks: Blocks
    settings: LlamaSettings
    free: tuple[int, ...] = ()

    @property
    def devices(self) -> int:
        """Accelerators."""
        return len(self.free)

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The device of each layer, then that of the output."""
        count, wanted = self.blocks.count, self.settings.n_gpu_layers
        begin = max(count + int(self.settings.release.output_first) - wanted, 0)
        active = min(wanted, count + 1) if self.devices else 0
        points = self._points()
        return tuple(self._device(layer, begin, active, points) for layer in range(count + 1))

    @property
    def places(self) -> tuple[int, ...]:
        """The devices that have layers, the host among them."""
        return tuple(sorted(set(self.layers[: self.blocks.loaded])))

    def _points(self) -> list[float]:
        shares = [_float(share) for share in self.settings.tensor_split or self.free][: self.devices]
        if self.settings.split_mode == "none":
            shares = [float(number == self.settings.main_gpu) for number in range(self.devices)]
        points, total = [], 0.0
        for share in shares:
            total = _float(total + share)
            points.append(total)
        return [_float(point / total) if total else 1.0 for point in points]

    @staticmethod
    def _device(layer: int, begin: int, active: int, points: Sequence[float]) -> int:
        if layer < begin or layer - begin >= active:
            return HOST
        at = _float((layer - begin) / active)
        return next((number for number, point in enumerate(points) if point > at), len(points) - 1)

    @property
    def pipelined(self) -> bool:
        """Whether devices work on several batches at once (`pipeline_parallel` of llama-context.cpp)."""
        settings = self.settings
        whole = settings.n_gpu_layers > self.blocks.count and settings.split_mode == "layer"
        return (
            self.devices > 1
            and whole
            and settings.offload_kqv
            and not self.settings.overrides
            and not self.settings.n_cpu_moe
        )

    def of(self, tensor: GgufTensor) -> int:
        """The device of a tensor; `HOST` too for what the input needs."""
        if tensor.name not in self._known:
            self._known[tensor.name] = self._of(tensor)
        return self._known[tensor.name]

    @staticmethod
    def is_expert(tensor: GgufTensor) -> bool:
        """Whether it is one of those that `--n-cpu-moe` moves."""
        return tensor.layer is not None and _EXPERTS.match(tensor.inner) is not None

    @cached_property
    def _known(self) -> dict[str, int]:
        """The devices that were asked for."""
        return {}

    def _of(self, tensor: GgufTensor) -> int:
        for pattern, place in self._overrides:
            if pattern.search(tensor.name):
                return place
        if tensor.layer is not None and tensor.layer < self.settings.n_cpu_moe and self.is_expert(tensor):
            return HOST
        if tensor.layer is not None:
            return self.layers[tensor.layer] if tensor.layer < self.blocks.count else HOST
        if tensor.place == "before":
            return HOST
        return self.layers[-1] if tensor.place == "after" else self.layers[0]

    @cached_property
    def _overrides(self) -> tuple[tuple[re.Pattern[str], int], ...]:
        moved = [
            (pattern, HOST if place.upper().startswith("CPU") else int(place))
            for pattern, place in self.settings.overrides
        ]
        return tuple((re.compile(pattern), place) for pattern, place in moved)
