"""Files that the package `onnx` writes, each with the tensors that it loads from them.

`python -m tests.oracle.onnx_files` writes `fixtures/onnx/`; the plain tests read these files as data.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import load_external_data_for_model

FOLDER = Path(__file__).parents[2] / "fixtures" / "onnx"
EXPECTED = FOLDER / "expected.json"
FLOATS = np.linspace(-1, 1, 64, dtype=np.float32)


def weight(name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> TensorProto:
    """A tensor whose bytes lie between the names (`raw_data`)."""
    return numpy_helper.from_array(np.ones(shape, dtype), name)


def packed(name: str, shape: list[int], type_: int) -> TensorProto:
    """A tensor of a type that numpy does not have."""
    return helper.make_tensor(name, type_, shape, np.zeros(shape, np.float32))


def typed(name: str) -> TensorProto:
    """A tensor whose numbers are a field of their own (`float_data`)."""
    return helper.make_tensor(name, TensorProto.FLOAT, [8, 8], FLOATS)


def graph(weights: list[TensorProto], nodes: list[Any] | None = None, **more: Any) -> onnx.ModelProto:
    """A model with these weights: each is read by a node."""
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    nodes = nodes or [helper.make_node("Identity", [each.name], [f"{each.name}_out"]) for each in weights]
    made = helper.make_graph(nodes, "g", [value], [value], initializer=weights, **more)
    return helper.make_model(made, producer_name="hfmem")


def within() -> onnx.ModelProto:
    """Constants, and weights of a branch."""
    branch = helper.make_graph([], "branch", [], [], initializer=[weight("inner", (5, 7))])
    return graph(
        [weight("outer", (3, 4))],
        [
            helper.make_node("Constant", [], ["c"], value=weight("constant", (2, 3, 4), np.float16)),
            helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch),
        ],
    )


def sparse() -> onnx.ModelProto:
    values = helper.make_tensor("values", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    indices = helper.make_tensor("indices", TensorProto.INT64, [3], [0, 5, 9])
    return graph([weight("w", (4,))], sparse_initializer=[helper.make_sparse_tensor(values, indices, [3, 4])])


def every_type() -> onnx.ModelProto:
    plain = [np.float16, np.float64, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
    weights = [weight(f"w{index}", (3, 5), dtype) for index, dtype in enumerate([*plain, np.bool_, np.complex64])]
    small = ("BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E5M2", "UINT4", "INT4", "FLOAT4E2M1", "UINT2", "INT2")
    return graph([*weights, *(packed(name, [3, 5], getattr(TensorProto, name)) for name in small)])


def outside() -> onnx.ModelProto:
    return graph([weight("embedding", (128, 32)), weight("matrix", (32, 64), np.float16), weight("bias", (64,))])


FILES: dict[str, Callable[[], onnx.ModelProto]] = {
    "inline.onnx": lambda: graph([weight("matrix", (64, 32)), weight("bias", (32,)), typed("numbers")]),
    "types.onnx": every_type,
    "within.onnx": within,
    "sparse.onnx": sparse,
    "outside.onnx": outside,
}


def saved(model: onnx.ModelProto, path: Path) -> None:
    """Write a model, with its weights in a file beside it if its name says so."""
    beside = path.stem.startswith("outside")
    onnx.save_model(model, path, save_as_external_data=beside, location=f"{path.name}_data", size_threshold=1024)


def loaded(path: Path) -> list[list[Any]]:
    """Name, shape and bytes of every tensor of a file, as the package has them after loading it."""
    model = onnx.load(path, load_external_data=False)
    load_external_data_for_model(model, str(path.parent))
    return [[name, shape, size] for name, shape, size in of_graph(model.graph)]


def of_graph(graph: onnx.GraphProto) -> list[tuple[str, list[int], int]]:
    tensors = list(graph.initializer)
    for sparse in graph.sparse_initializer:
        tensors += [sparse.values, sparse.indices]
    found = [described(tensor) for tensor in tensors]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                found.append(described(attribute.t))
            elif attribute.type == onnx.AttributeProto.GRAPH:
                found += of_graph(attribute.g)
    return sorted(found)


def described(tensor: TensorProto) -> tuple[str, list[int], int]:
    raw = tensor.raw_data or numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data  # packed, below 8 bits
    return tensor.name, list(tensor.dims), len(raw)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    expected = {}
    for name, make in FILES.items():
        saved(make(), FOLDER / name)
        expected[name] = loaded(FOLDER / name)
    content = {"versions": {"onnx": onnx.__version__}, "files": expected}
    EXPECTED.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
