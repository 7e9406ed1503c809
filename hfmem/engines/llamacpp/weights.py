"""The weights by device: tensors of the input on the host, an embedding that is the output's too loaded twice."""

from __future__ import annotations

from collections.abc import Iterator
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
    for tensor, place in _homes(placement):
        before = found.get(place, Placed())
        size = _allocated(tensor, _HOST if place == HOST else device)
        found[place] = Placed(nbytes=before.nbytes + size, count=before.count + 1)
    return found


def parted(placement: Placement, device: Device, devices: int) -> dict[int, Placed]:
    """What each of the devices that share every matrix holds, and the host.

    Args:
        placement: on one device, which stands for all.
        device: their kind.
        devices: how many they are.
    """
    parts = Parts(blocks=placement.blocks, shares=placement.settings.tensor_split, devices=devices)
    found: dict[int, Placed] = {}
    for tensor, place in _homes(placement):
        shapes = [tensor.shape] if place == HOST else parts.shapes(tensor)
        for number, shape in enumerate(shapes):
            own = replace(tensor, shape=shape, nbytes=tensor.nbytes * prod(shape) // max(prod(tensor.shape), 1))
            where = HOST if place == HOST else number
            before = found.get(where, Placed())
            size = _allocated(own, _HOST if place == HOST else device) if own.nbytes else 0
            found[where] = Placed(nbytes=before.nbytes + size, count=before.count + 1)
    return found


def _allocated(tensor: GgufTensor, device: Device) -> int:
    """Bytes of a tensor in a buffer; the last row of a quantised matrix may be padded
    (`ggml_backend_cuda_buffer_type_get_alloc_size`)."""
    size, row = tensor.nbytes, tensor.shape[-1] if tensor.shape else 1
    missing = -row % device.row_padding
    if missing and tensor.dtype not in _FLOATS:
        size += tensor.nbytes * missing // max(prod(tensor.shape), 1)
    return padded(size, device.alignment)


def _homes(placement: Placement) -> Iterator[tuple[GgufTensor, int]]:
    blocks = placement.blocks
    for tensor in blocks.tensors:
        if tensor.layer is not None and blocks.loaded <= tensor.layer < blocks.count:
            continue  # layers of further predictions
        if tensor.name.startswith(_SHARED):
            yield from ((tensor, place) for place in placement.places)
        else:
            yield tensor, placement.of(tensor)
    if blocks.tied is not None and placement.layers[-1] != HOST:
        yield blocks.tied, placement.layers[-1]
