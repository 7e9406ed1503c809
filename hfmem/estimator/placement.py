"""Where whole modules of a model lie: on accelerators, in the host's memory, on disk."""

from __future__ import annotations

from dataclasses import dataclass

from hfmem.mapper.modules import Device
from hfmem.mapper.values import Certainty

__all__ = ["Place", "Placement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is put on a device.

    Attributes:
        device: the number of an accelerator, `mps`, `cpu` or `disk`.
        modules: names of its modules; consecutive layers as `model.layers.0-17`.
        layers: numbers of the decoder's layers among them.
        nbytes: bytes of the weights there.
        limit: bytes that the placement may fill; None for no limit.
    """

    device: Device
    modules: tuple[str, ...]
    layers: tuple[int, ...]
    nbytes: int
    limit: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where the modules of a model lie.

    Attributes:
        way: as in `Placing` of the scenario.
        places: the devices in the order in which they are filled.
        modules: each module, with its device, as `hf_device_map` has them.
        source: what placed them.
        certainty: `exact` for the library's own placement or its rules on the class's own bytes, else `derived`.
        assumed: what was assumed of free memory, as a sentence.
    """

    way: str
    places: tuple[Place, ...]
    modules: tuple[tuple[str, Device], ...]
    source: str
    certainty: Certainty
    assumed: str

    @property
    def offloaded(self) -> tuple[Place, ...]:
        """What lies on no accelerator."""
        return tuple(place for place in self.places if place.device in ("cpu", "disk") and place.modules)
