"""Where the modules of a model lie, for `--device-map`."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, Final

from hfmem.report.escapes import line
from hfmem.report.grid import grid
from hfmem.units import format_bytes

if TYPE_CHECKING:
    from hfmem.estimator.placement import Place, Placement
    from hfmem.mapper.modules import Device

__all__ = ["placement_dict", "placement_lines"]

_MOST: Final = 6  # names of modules in a line
_NARROWEST: Final = 12  # columns for them


def placement_lines(placement: Placement | None, unit: str, width: int | None) -> list[str]:
    """A row per device: the weights there, the limit that they were placed by, and the modules, folded at `width`."""
    if placement is None:
        return []
    rows = [
        [_name(place.device), _size(place.nbytes, unit), _size(place.limit, unit), _layers(place), _modules(place)]
        for place in placement.places
        if place.modules or place.device not in ("cpu", "disk")  # an accelerator that nothing lies on is of interest
    ]
    headers = [f"device map ({unit})", "weights", "up to", "layers", "modules"]
    alignment = ("left", "right", "right", "right", "left")
    beside = grid([row[:-1] for row in rows], headers[:-1]).splitlines()
    room = None if width is None else max(_NARROWEST, width - len(beside[0]) - 2)
    if room is not None:
        rows = [[*row[:-1], "\n".join(textwrap.wrap(row[-1], room, break_on_hyphens=False))] for row in rows]
    return grid(rows, headers, alignment).splitlines()


def _name(device: Device) -> str:
    return f"GPU {device}" if isinstance(device, int) else {"cpu": "host", "mps": "GPU"}.get(device, device)


def _size(nbytes: int | None, unit: str) -> str:
    return "" if nbytes is None else format_bytes(nbytes, unit, label=False)


def _layers(place: Place) -> str:
    return str(len(place.layers) or "")


def _modules(place: Place) -> str:
    shown = ", ".join(line(name) for name in place.modules[:_MOST])
    return shown + (f", … ({len(place.modules)})" if len(place.modules) > _MOST else "")


def placement_dict(placement: Placement) -> dict[str, Any]:
    """The key `device_map` of a RESULT."""
    return {
        "policy": placement.way,
        "map": dict(placement.modules),
        "devices": [
            {
                "device": place.device,
                "modules": list(place.modules),
                "layers": list(place.layers),
                "weights": place.nbytes,
                "limit": place.limit,
            }
            for place in placement.places
        ],
        "source": placement.source,
        "certainty": placement.certainty,
    }
