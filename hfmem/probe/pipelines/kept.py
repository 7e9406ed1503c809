"""Writes `hfmem/data/kept_float32.json`: the modules that classes of diffusers and transformers keep in float32.

python -m hfmem.probe.pipelines.kept

The sources are read, not imported: a class has what it declares, else what the first of its bases in the same file has.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import hfmem.data

__all__ = ["declared", "main"]

_IN_FP16: Final = "_keep_in_fp32_modules"
_IN_BOTH: Final = "_keep_in_fp32_modules_strict"
_HALF: Final = ("float16", "bfloat16")


def main() -> None:
    """Write the table with the library versions that it comes from."""
    document: dict[str, Any] = {"source": f"diffusers {version('diffusers')}, transformers {version('transformers')}"}
    for library, words in (("diffusers", {_IN_FP16: _HALF}), ("transformers", {_IN_FP16: _HALF[:1], _IN_BOTH: _HALF})):
        document[library] = {
            name: {",".join(sorted(words[key])): sorted(found) for key, found in sorted(lists.items()) if key in words}
            for name, lists in sorted(_of(library))
            if any(key in words for key in lists)
        }
    path = Path(hfmem.data.__file__).parent / "kept_float32.json"
    path.write_text(_lines(document), encoding="utf-8")
    print(f"{len(document['diffusers'])} and {len(document['transformers'])} classes in {path.name}")


def _lines(document: dict[str, Any]) -> str:
    """The document with one line per class."""
    text = json.dumps(document, indent=None)
    return text.replace("}, ", "},\n ").replace(": {", ":\n {", 2).replace("}}", "}\n}") + "\n"


def _of(library: str) -> Iterator[tuple[str, dict[str, list[str]]]]:
    spec = find_spec(library)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(library)
    for path in sorted((Path(spec.origin).parent / "models").rglob("*.py")):
        if path.name.startswith("modular_"):  # what modeling files are generated from
            continue
        text = path.read_text(encoding="utf-8")
        if _IN_FP16 in text:
            yield from declared(text).items()


def declared(source: str) -> dict[str, dict[str, list[str]]]:
    """For each class of a module, the lists that it has and that are not empty.

    Args:
        source: the module's text.
    """
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    found: dict[str, dict[str, list[str]]] = {}
    for node in classes:
        own: dict[str, list[str]] = {}
        for base in reversed(node.bases):
            own |= found.get(ast.unparse(base), {})
        for part in node.body:
            if isinstance(part, ast.Assign | ast.AnnAssign) and part.value is not None:
                target = part.targets[0] if isinstance(part, ast.Assign) else part.target
                name = ast.unparse(target)
                if name in (_IN_FP16, _IN_BOTH):
                    own[name] = _words(part.value)
        if any(own.values()):
            found[node.name] = {name: words for name, words in own.items() if words}
    return found


def _words(value: ast.expr) -> list[str]:
    """The strings of a list; nothing of what is computed."""
    try:
        words = ast.literal_eval(value)
    except ValueError:
        return []
    return [word for word in words or () if isinstance(word, str)]


if __name__ == "__main__":
    main()
