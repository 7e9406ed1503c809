"""Where the modules of a model lie, for `--device-map`."""

from __future__ import annotations

from typing import Any

from tabulate import tabulate

from hfmem.estimator.values import Place, Placement
from hfmem.mapper.modules import Device
from hfmem.report.escapes import line
from hfmem.units import format_bytes

__all__ = ["placement_dict", "placement_lines"]

_MOST = 6  # names of modules in a line


def placement_lines(placement: Placement | None, unit: str) -> list[str]:
    """A row per device: the weights there, the limit that they were placed by, and the modules."""
    if placement is None:
        return []
    rows = [
        [_name(place.device), _size(place.nbytes, unit), _size(place.limit, unit), _layers(place), _modules(place)]
        for place in placement.places
    ]
    headers = [f"device map ({unit})", "weights", "up to", "layers", "modules"]
    alignment = ("left", "right", "right", "right", "left")
    return tabulate(rows, headers=headers, disable_numparse=True, colalign=alignment).splitlines()


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
