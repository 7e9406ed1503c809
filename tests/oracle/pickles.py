"""Files of `torch.save` and `torch.jit.save`, each with what loading it gives.

`python -m tests.oracle.pickles` writes `fixtures/pickles/`; the plain tests read these files as data.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parents[2] / "fixtures" / "pickles"
EXPECTED = FOLDER / "expected.json"


def names_of_types() -> dict[torch.dtype, str]:
    """PyTorch's dtypes by the names that safetensors gives them."""
    return {
        torch.float64: "F64",
        torch.float32: "F32",
        torch.float16: "F16",
        torch.bfloat16: "BF16",
        torch.float8_e4m3fn: "F8_E4M3",
        torch.int64: "I64",
        torch.int32: "I32",
        torch.uint16: "U16",
        torch.int8: "I8",
        torch.uint8: "U8",
        torch.bool: "BOOL",
        torch.complex64: "C64",
        torch.complex128: "complex128",
    }


def state() -> OrderedDict[str, torch.Tensor]:
    """A plain state."""
    return OrderedDict(
        {"embed.weight": torch.randn(6, 4), "norm.weight": torch.ones(4).bfloat16(), "scalar": torch.tensor(3)}
    )


def odd(*, legacy: bool = False) -> dict[str, torch.Tensor]:
    """Ties, views, an expanded and an empty tensor, and every dtype; of the types that came after
    legacy files none can be loaded."""
    tied, large = torch.randn(6, 4), torch.randn(100)
    types = {f"type.{name}": torch.ones(3).to(dtype) for dtype, name in names_of_types().items()}
    if legacy:
        del types["type.U16"], types["type.F8_E4M3"]
    return {
        "w": tied,
        "tied": tied,
        "transposed": tied.t(),
        "parameter": torch.nn.Parameter(tied),
        "view": large[10:20],
        "second view": large[20:30],
        "expanded": torch.ones(1).expand(7, 3),
        "empty": torch.empty(0, 3),
        **types,
    }


def trained() -> tuple[torch.nn.Module, dict[str, Any]]:
    """A module, and a checkpoint of it with an optimizer's state."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    return module, {"state_dict": module.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}


def made() -> dict[str, Callable[[Path], None]]:
    """How each file is written."""
    module, checkpoint = trained()
    nested = {"list": [torch.ones(2), (torch.ones(3),)], 5: torch.ones(5), "meta": torch.empty(3, 4, device="meta")}
    old = {"_use_new_zipfile_serialization": False}
    return {
        "state.bin": lambda path: torch.save(state(), path),
        "state-legacy.bin": lambda path: torch.save(state(), path, **old),
        "odd.pt": lambda path: torch.save(odd(), path),
        "odd-legacy.pt": lambda path: torch.save(odd(legacy=True), path, **old),
        "checkpoint.ckpt": lambda path: torch.save(checkpoint, path),
        "checkpoint-legacy.pth": lambda path: torch.save(checkpoint, path, **old),
        "optimizer.pt": lambda path: torch.save(checkpoint["optimizer"], path),
        "nested.pt": lambda path: torch.save(nested, path),
        "protocol-5.pt": lambda path: torch.save(state(), path, pickle_protocol=5),
        "module.pt": lambda path: torch.save(module, path),
        "script.pt": lambda path: torch.jit.save(torch.jit.script(module), path),
        "traced.pt": lambda path: torch.jit.save(torch.jit.trace(module.eval(), torch.randn(2, 4)), path),
    }


def loaded(path: Path) -> Any:
    """What PyTorch makes of a file."""
    if path.name in ("script.pt", "traced.pt"):
        return torch.jit.load(path).state_dict()
    value = torch.load(path, map_location="cpu", weights_only=path.name not in ("module.pt", "protocol-5.pt"))
    return value.state_dict() if isinstance(value, torch.nn.Module) else value


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in it, each once, without those of optimizers."""
    seen: set[tuple[int, int, int]] = set()
    for tensor in _all(value):
        place = (tensor.data_ptr(), tensor.numel(), tensor.element_size())
        if tensor.device.type != "meta" and tensor.numel() and place in seen:
            continue
        seen.add(place)
        yield tensor


def _all(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        parts = () if {"state", "param_groups"} <= value.keys() else value.values()
        for part in parts:
            yield from _all(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _all(part)


def summary(value: Any) -> list[list[Any]]:
    """Dtype, shape and bytes of each tensor, sorted."""
    types = names_of_types()
    rows = ([types[tensor.dtype], list(tensor.shape), tensor.nbytes] for tensor in tensors(value))
    return sorted(rows)


def main() -> None:
    """Write the files and what they hold."""
    FOLDER.mkdir(exist_ok=True)
    torch.manual_seed(0)
    files = {}
    for name, write in made().items():
        write(FOLDER / name)
        files[name] = summary(loaded(FOLDER / name))
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(found)}" for name, found in files.items())
    EXPECTED.write_text(f'{{"torch": "{torch.__version__}", "files": {{\n{rows}\n}}}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
