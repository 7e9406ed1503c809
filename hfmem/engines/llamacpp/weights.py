"""The weights by device: tensors of the input on the host, an embedding that is the output's too loaded twice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Final

from hfmem.engines.llamacpp.allocator import HOST, Device
from hfmem.engines.llamacpp.placement import Placement
from hfmem.engines.llamacpp.settings import padded
from hfmem.mapper.gguf.layout import GgufTensor
from hfmem.mapper.gguf.parts import Parts

__all__ = ["Placed", "parted", "placed"]

_HOST: Final = Device()
_SHARED: Final = ("rope_freqs.", "rope_factors_long.", "rope_factors_short.")
"""What every layer reads, which each device with layers has a copy of (`TENSOR_DUPLICATED`)."""
_FLOATS: Final = ("F64", "F32", "F16", "BF16", "I8", "I16", "I32", "I64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Tensors of a device: their bytes with what alignment adds, and how many."""

    nbytes: int = 0
    count: int = 0


def placed(placement: Placement, device: Device) -> dict[int, Placed]:
    """What each device and the host hold."""
    found: dict[int, Placed] = {}
    groups, tied = _groups(placement, device)
    homes = [(group, place) for group in groups for place in _places(placement, group.first)]
    if tied is not None and placement.layers[-1] != HOST:
        homes.append((tied, placement.layers[-1]))
    for group, place in homes:
        _put(found, place, group.there if place == HOST else group.here, group.count)
    return found


def _put(found: dict[int, Placed], place: int, nbytes: int, count: int) -> None:
    before = found.get(place, Placed())
    found[place] = Placed(nbytes=before.nbytes + nbytes, count=before.count + count)


@dataclass(slots=True)
class _Group:
    """Tensors that are together wherever they are.

    Attributes:
        first: one of them.
        here, there: their bytes on a device, and on the host.
        count: how many they are.
    """

    first: GgufTensor
    here: int = 0
    there: int = 0
    count: int = 0

    def add(self, tensor: GgufTensor, device: Device) -> _Group:
        """With one more."""
        self.here += _allocated(tensor, device)
        self.there += _allocated(tensor, _HOST)
        self.count += 1
        return self


def _groups(placement: Placement, device: Device) -> tuple[list[_Group], _Group | None]:
    """The tensors in groups, and the embedding that is the output's too; made once for a file: of each layer the
    experts and the rest, one by one where patterns may move any."""
    blocks, apart = placement.blocks, bool(placement.settings.overrides)
    key = ("groups", device, apart)
    if key not in blocks.memo:
        found: dict[object, _Group] = {}
        for tensor in blocks.tensors:
            alone = apart or tensor.name.startswith(_SHARED)
            kind = tensor.name if alone else (tensor.layer, tensor.place, placement.is_expert(tensor))
            found.setdefault(kind, _Group(tensor)).add(tensor, device)
        tied = None if blocks.tied is None else _Group(blocks.tied).add(blocks.tied, device)
        blocks.memo[key] = [*found.values()], tied
    groups: tuple[list[_Group], _Group | None] = blocks.memo[key]
    return groups


def parted(placement: Placement, device: Device, devices: int) -> dict[int, Placed]:
    """What each of the devices that share every matrix holds, and the host.

    Args:
        placement: on one device, which stands for all.
        device: their kind.
        devices: how many they are.
    """
    blocks = placement.blocks
    parts = Parts(blocks=blocks, shares=placement.settings.tensor_split, devices=devices)
    found: dict[int, Placed] = {}
    homes = [(tensor, place) for tensor in blocks.tensors for place in _places(placement, tensor)]
    if blocks.tied is not None and placement.layers[-1] != HOST:
        homes.append((blocks.tied, placement.layers[-1]))
    for tensor, place in homes:
        if place == HOST:
            _put(found, HOST, _allocated(tensor, _HOST), 1)
            continue
        for number, shape in enumerate(parts.shapes(tensor)):
            own = replace(tensor, shape=shape, nbytes=tensor.nbytes * prod(shape) // max(prod(tensor.shape), 1))
            _put(found, number, _allocated(own, device) if own.nbytes else 0, 1)
    return found


def _places(placement: Placement, tensor: GgufTensor) -> tuple[int, ...]:
    """Where a tensor is: nowhere for layers of further predictions, everywhere for what all layers read."""
    blocks = placement.blocks
    if tensor.layer is not None and blocks.loaded <= tensor.layer < blocks.count:
        return ()
    return placement.places if tensor.name.startswith(_SHARED) else (placement.of(tensor),)


def _allocated(tensor: GgufTensor, device: Device) -> int:
    """Bytes of a tensor in a buffer; the last row of a quantised matrix may be padded
    (`ggml_backend_cuda_buffer_type_get_alloc_size`)."""
    size, row = tensor.nbytes, tensor.shape[-1] if tensor.shape else 1
    missing = -row % device.row_padding
    if missing and tensor.dtype not in _FLOATS:
        size += tensor.nbytes * missing // max(prod(tensor.shape), 1)
    return padded(size, device.alignment)
