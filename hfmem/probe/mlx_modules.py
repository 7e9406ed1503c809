"""Writes `hfmem/data/mlx_modules.json`: the model types that mlx-lm has a module for.

python -m hfmem.probe.mlx_modules WHEEL

A wheel of mlx-lm is read, not installed: MLX is not needed.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any, Final
from zipfile import ZipFile

import hfmem.data

__all__ = ["listed", "main"]

_FOLDER: Final = "mlx_lm/models/"
_RENAMED: Final = "MODEL_REMAPPING"
_TYPED: Final = "MODEL_ARCHITECTURE_REMAPPING"


def main() -> None:
    """Write the table with the release that it comes from."""
    wheel = Path(sys.argv[1])
    with ZipFile(wheel) as archive:
        table = listed(archive)
    document = {"source": f"mlx-lm {wheel.name.split('-')[1]}", **table}
    path = Path(hfmem.data.__file__).parent / "mlx_modules.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{len(table['modules'])} modules in {path.name}")


def listed(archive: ZipFile) -> dict[str, list[str]]:
    """Modules that define a model, and types that another module runs."""
    utils = ast.parse(archive.read("mlx_lm/utils.py"))
    renamed = [*_assigned(utils, _RENAMED), *(kind for kind, _ in _assigned(utils, _TYPED))]
    modules = [
        name.removeprefix(_FOLDER).removesuffix(".py")
        for name in archive.namelist()
        if name.startswith(_FOLDER) and name.endswith(".py") and b"\nclass Model(" in archive.read(name)
    ]
    return {"modules": sorted(modules), "renamed": sorted(renamed)}


def _assigned(module: ast.Module, name: str) -> Any:
    """The literal that a module assigns to a name."""
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise KeyError(name)


if __name__ == "__main__":
    main()
