"""Buffers that llama.cpp told of real files (`fixtures/gguf/buffers.jsonl`), and the engine's beside them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from hfmem.engines.llamacpp.allocator import HOST, Device
from hfmem.engines.llamacpp.caches import kept, sides
from hfmem.engines.llamacpp.compute import computed
from hfmem.engines.llamacpp.options import ALL_LAYERS
from hfmem.engines.llamacpp.placement import Placement
from hfmem.engines.llamacpp.settings import LlamaSettings
from hfmem.engines.llamacpp.weights import placed
from hfmem.mapper.gguf.layout import Blocks, layout_of
from hfmem.mapper.gguf.reader import architecture_of
from hfmem.mapper.values import Architecture
from hfmem.unknown import Unknown
from tests.mapper.gguf_models import model

__all__ = ["PATH", "ROWS", "Pair", "Row", "blocks_of", "cache_pairs", "compute_pairs", "weight_pairs"]

PATH: Final = Path(__file__).parents[3] / "fixtures" / "gguf" / "buffers.jsonl"
_HEAD, *_LINES = PATH.read_text(encoding="utf-8").splitlines()
_DEFAULTS: Final[Mapping[str, Any]] = json.loads(_HEAD)["defaults"]
_FREE: Final = 10**10
"""Memory of each stand-in: their shares are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A file under settings of llama.cpp's C interface, and [model, context, compute] of each buffer."""

    file: str
    asked: Mapping[str, Any]
    measured: Mapping[str, tuple[int, int, int]]

    @property
    def devices(self) -> int:
        return sum(name.startswith("device") for name in self.measured)

    def told(self, part: int) -> list[int]:
        """A part of the devices' buffers, the smallest first, then of the host's together."""
        devices = sorted(sizes[part] for name, sizes in self.measured.items() if name.startswith("device"))
        return [*devices, sum(sizes[part] for name, sizes in self.measured.items() if not name.startswith("device"))]

    def settings(self) -> LlamaSettings:
        asked = {**_DEFAULTS, **self.asked}
        return LlamaSettings(
            n_ctx=asked["n_ctx"],
            n_batch=asked["n_batch"],
            n_ubatch=asked["n_ubatch"],
            n_seq_max=asked["n_seq_max"],
            n_outputs=asked.get("n_outputs_max", ALL_LAYERS),
            flash=asked["fa"] != "off",
            auto_flash=asked["fa"] == "auto" and asked["ctv"] in ("f16", "f32", "bf16"),
            type_k=asked["ctk"],
            type_v=asked["ctv"],
            unified=asked["kv_unified"],
            swa_full=asked["swa_full"],
            n_gpu_layers=asked["ngl"],
            tensor_split=tuple(asked.get("tensor_split", ())),
            split_mode="none" if asked.get("split_mode") == 0 else "layer",
            n_cpu_moe=asked.get("n_cpu_moe", 0),
            offload_kqv=asked.get("offload_kqv", True),
        )

    def placement(self) -> Placement:
        return Placement(blocks=blocks_of(self.file)[1], settings=self.settings(), free=(_FREE,) * self.devices)


ROWS: Final = [Row(**json.loads(line)) for line in _LINES]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What llama.cpp told of a buffer, and what the engine says."""

    row: Row
    told: int
    ours: int

    @property
    def error(self) -> float:
        return abs(self.ours - self.told) / max(self.told, 1)


@cache
def blocks_of(file: str) -> tuple[Architecture, Blocks]:
    checkpoint = model(file)
    architecture = architecture_of(checkpoint)
    blocks = layout_of(checkpoint, architecture)
    assert blocks is not None
    return architecture, blocks


def weight_pairs(rows: Iterable[Row]) -> list[Pair]:
    found = []
    for row in rows:
        homes = placed(row.placement(), Device())
        found += _paired(row, 0, {place: each.nbytes for place, each in homes.items()})
    return found


def cache_pairs(rows: Iterable[Row]) -> list[Pair]:
    """Caches and states of a layer are where the layer is."""
    found = []
    for row in rows:
        architecture, blocks = blocks_of(row.file)
        placement, sizes = row.placement(), dict[int, int]()
        layers = (architecture.layers or ())[: blocks.loaded]
        for number, parts in enumerate(kept(layers, blocks.kernel, placement.settings)):
            place = placement.layers[number] if placement.settings.offload_kqv else HOST
            sizes[place] = sizes.get(place, 0) + sum(part.nbytes for part in parts)
        found += _paired(row, 1, sizes)
    return found


def compute_pairs(rows: Iterable[Row]) -> list[Pair]:
    found = []
    for row in rows:
        (architecture, blocks), placement = blocks_of(row.file), row.placement()
        caches = [sides(layer, placement.settings) for layer in (architecture.layers or ())[: blocks.loaded]]
        compute = computed(placement, [Device()] * row.devices, caches)
        assert not isinstance(compute, Unknown), (row, compute)
        found += _paired(row, 2, {HOST: compute.host, **dict(enumerate(compute.devices))})
    return found


def _paired(row: Row, part: int, sizes: Mapping[int, int]) -> list[Pair]:
    """Which stand-in is the first is a matter of chance: they are compared by size."""
    ours = [*sorted(sizes.get(place, 0) for place in range(row.devices)), sizes.get(HOST, 0)]
    return [Pair(row=row, told=told, ours=own) for told, own in zip(row.told(part), ours, strict=True) if told or own]
