"""What cuDNN gives convolutions to work in: `python -m tests.oracle.cudnn` adds the installed release to
`fixtures/oracle/cudnn.json`.

cuDNN plans for a card that is not there, by its properties (since 9.8, "deviceless compilation"): asked is the first
plan of its heuristics, which PyTorch runs (`aten/src/ATen/native/cudnn/Conv_v8.cpp`), for tensors as PyTorch has them
(NCHW). Needs `pip install nvidia-cudnn-frontend nvidia-cudnn-cu12 nvidia-cublas-cu12 nvidia-cuda-nvrtc-cu12`, their
folders `lib` in `LD_LIBRARY_PATH`, and a library named `libcuda.so.1`, of which no function is called.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final

__all__ = ["CARDS", "FIXTURE", "main"]

FIXTURE: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "cudnn.json"

CARDS: Final[dict[str, dict[str, int]]] = {
    "T4": {"capability": 750, "processors": 40, "shared": 65536, "warps": 32, "blocks": 16, "bus": 256, "l2": 4},
    "A100": {"capability": 800, "processors": 108, "shared": 167936, "warps": 64, "blocks": 32, "bus": 5120, "l2": 40},
    "RTX 3090": {"capability": 860, "processors": 82, "shared": 102400, "warps": 48, "blocks": 16, "bus": 384, "l2": 6},
    "RTX 4090": {
        "capability": 890,
        "processors": 128,
        "shared": 102400,
        "warps": 48,
        "blocks": 24,
        "bus": 384,
        "l2": 72,
    },
    "H100": {"capability": 900, "processors": 132, "shared": 233472, "warps": 64, "blocks": 32, "bus": 5120, "l2": 50},
}
"""What the heuristics are told of a card: compute capability, multiprocessors, shared memory, warps and blocks of one,
width of the memory's bus, cache in MiB (the CUDA programming guide's table of capabilities; the vendor's data sheets).
"""

_IMAGES: Final = (1, 2, 4, 8, 9, 12, 16, 17, 32)
_CONVOLUTIONS: Final = (
    (256, 256, (1024, 1024)),
    (256, 128, (1024, 1024)),
    (512, 512, (512, 512)),
    (128, 128, (1024, 1024)),
    (128, 128, (17, 512, 768)),
    (256, 256, (17, 256, 384)),
    (256, 128, (17, 512, 768)),
)
"""Channels of input and output, and their sides: of the VAEs of Stable Diffusion and FLUX at 1024 x 1024, and of
HunyuanVideo's."""


def _properties(card: dict[str, int]) -> str:
    kept = 1024 if card["capability"] >= 800 else 0  # of each block's shared memory, by the system
    found: dict[str, Any] = {
        "deviceName": "card",
        "cudaDeviceId": 0,
        "deviceVer": card["capability"],
        "multiProcessorCount": card["processors"],
        "driverVer": 12040,
        "maxSharedMemoryPerBlockOptin": card["shared"] - kept,
        "maxSharedMemoryPerBlock": 49152,
        "maxSharedMemoryPerSM": card["shared"],
        "reservedSharedMemoryPerBlock": kept,
        "totalGlobalMem": 80 << 30,
        "maxGridSize": [2147483647, 65535, 65535],
        "maxBlockSize": [1024, 1024, 64],
        "maxThreadsPerBlock": 1024,
        "maxThreadsPerSM": 32 * card["warps"],
        "maxWarpsPerSM": card["warps"],
        "maxCtasPerSM": card["blocks"],
        "maxRegistersPerSM": 65536,
        "regsPerBlock": 65536,
        "warpSize": 32,
        "l2CacheSize": card["l2"] << 20,
        "memoryBusWidth": card["bus"],
        "memClockRateKHz": 2_000_000,
        "smClockRateKHz": 1_500_000,
        "supportCoopLaunch": 1,
        "isTccDriver": 0,
        "pciDeviceId": 0,
    }
    return json.dumps(found)


def _strides(shape: tuple[int, ...]) -> list[int]:
    return [prod(shape[place + 1 :]) for place in range(len(shape))]


def _workspace(cudnn: Any, properties: Any, dtype: str, shapes: tuple[tuple[int, ...], ...]) -> int:
    """Bytes of the first plan that can be built."""
    kind = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT"}[dtype]
    stored, computed = getattr(cudnn.data_type, kind), cudnn.data_type.FLOAT
    graph = cudnn.pygraph(
        device_property=properties,
        io_data_type=stored,
        intermediate_data_type=computed,
        compute_data_type=computed,
    )
    image, kernel, result = shapes
    given = [graph.tensor(dim=list(x), stride=_strides(x), data_type=stored) for x in (image, kernel)]
    sides = len(image) - 2
    made = graph.conv_fprop(*given, padding=[1] * sides, stride=[1] * sides, dilation=[1] * sides)
    made.set_output(True).set_data_type(stored).set_dim(list(result)).set_stride(_strides(result))
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A])
    for number in range(graph.get_execution_plan_count()):
        try:
            graph.build_plan_at_index(number)
        except cudnn.cudnnGraphNotSupportedError:
            continue
        return int(graph.get_workspace_size_plan_at_index(number))
    raise LookupError(f"no plan of {shapes} in {dtype}")


def _rows() -> Iterator[dict[str, Any]]:
    import cudnn

    number = cudnn.backend_version()
    release = f"{number // 10000}.{number // 100 % 100}.{number % 100}"
    for name, card in CARDS.items():
        properties = cudnn.create_device_properties(_properties(card))
        for dtype, (inner, outer, sides) in product(("float16", "float32"), _CONVOLUTIONS):
            kernel = (outer, inner, *[3] * len(sides))
            found = {
                images: _workspace(cudnn, properties, dtype, ((images, inner, *sides), kernel, (images, outer, *sides)))
                for images in _IMAGES
            }
            yield {
                "cudnn": release,
                "card": name,
                "dtype": dtype,
                "channels": [inner, outer],
                "sides": list(sides),
                "workspace": found,
            }


def main() -> None:
    """Measure, in place of what there is of the installed release."""
    rows = list(_rows())
    old = json.loads(FIXTURE.read_text(encoding="utf-8")) if FIXTURE.exists() else []
    kept = [row for row in old if row["cudnn"] != rows[0]["cudnn"]]
    lines = ",\n".join(json.dumps(row) for row in [*kept, *rows])
    FIXTURE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
