"""Writes `data/vllm_architectures.jsonl`: the model classes that each release of vLLM supports, and the classes of the
installed `transformers` that vLLM's Transformers backend supports.

    python -m hfmem.probe.vllm_classes vllm-0.19.0.whl vllm-0.27.0.whl vllm-0.33.0.whl

A wheel is a file from PyPI, or a folder with its contents. No code of it is run: the registry
(`model_executor/models/registry.py`) consists of dictionaries that are parsed. `transformers` is parsed too, for the
conditions that vLLM checks: `PreTrainedModel.is_backend_compatible`, and from 0.33 on `_can_set_attn_implementation`.
"""

from __future__ import annotations

import ast
import json
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

__all__ = ["Release", "backend_classes", "read", "rows"]

TARGET: Final = Path(__file__).parent.parent / "data" / "vllm_architectures.jsonl"

_REGISTRY: Final = "vllm/model_executor/models/registry.py"
_CONFIG: Final = "vllm/config/model.py"
_ATTENTION: Final = re.compile(r"^class \w*Attention\w*\(nn\.Module\):", re.MULTILINE)
_INTERFACE: Final = "ALL_ATTENTION_FUNCTIONS.get_interface("


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """The registry of a release.

    Attributes:
        name: the release, such as `0.27.0`.
        classes: the supported values of `architectures` in config.json.
        until: by formerly supported name, the last release with it.
        plugins: by name that a plugin supports, the URL of the plugin.
        suffixes: suffixes of names that it treats as equivalent (`_SUFFIX_TO_DEFAULTS`).
    """

    name: str
    classes: frozenset[str]
    until: Mapping[str, str]
    plugins: Mapping[str, str]
    suffixes: tuple[str, ...]

    @property
    def number(self) -> tuple[int, ...]:
        """The release as a tuple of integers, for comparison."""
        return _number(self.name)


def _number(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)[:2]))


def read(wheel: Path) -> Release:
    """The registry in a wheel, or in a folder with its contents."""
    if wheel.is_dir():
        names = {path.relative_to(wheel).as_posix(): path for path in wheel.glob("*/METADATA")}
        texts = [(wheel / name).read_text(encoding="utf-8") for name in (_REGISTRY, _CONFIG, next(iter(names)))]
    else:
        with zipfile.ZipFile(wheel) as file:
            metadata = next(name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
            texts = [file.read(name).decode() for name in (_REGISTRY, _CONFIG, metadata)]
    tables, defaults = _assigned(texts[0]), _assigned(texts[1])
    parts = [ast.unparse(value) for key, value in _items(tables["_VLLM_MODELS"]) if key is None]
    return Release(
        name=re.findall(r"^Version: ([\d.]+)", texts[2], re.MULTILINE)[0],
        classes=frozenset(key.value for part in parts for key, _ in _items(tables[part]) if _is_word(key)),
        until=ast.literal_eval(tables["_PREVIOUSLY_SUPPORTED_MODELS"]),
        plugins=ast.literal_eval(tables["_OOT_SUPPORTED_MODELS"]),
        suffixes=tuple(suffix for suffix, _ in ast.literal_eval(defaults["_SUFFIX_TO_DEFAULTS"])),
    )


def _assigned(source: str) -> dict[str, ast.expr]:
    """The values assigned to names in a module."""
    found: dict[str, ast.expr] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = node.value
    return found


def _items(node: ast.expr) -> Iterator[tuple[Any, ast.expr]]:
    """Keys and values of a dictionary display; the key is None for `**` entries."""
    if not isinstance(node, ast.Dict):
        raise TypeError(f"{ast.unparse(node)[:60]} is not a dictionary")
    return zip(node.keys, node.values, strict=True)


def _is_word(key: ast.expr | None) -> bool:
    return isinstance(key, ast.Constant) and isinstance(key.value, str)


def backend_classes(package: Path) -> dict[str, str]:
    """The public classes of `transformers`, and why vLLM's backend supports each: `flag` by the attribute that
    `is_backend_compatible` checks, `source` by what `_can_set_attn_implementation` finds in its module, "" if not."""
    public: set[str] = set()
    bases: dict[str, list[str]] = {}
    flags: dict[str, bool] = {}
    settable: dict[str, bool] = {}
    for path in sorted((package / "models").glob("*/modeling_*.py")):
        source = path.read_text(encoding="utf-8")
        public |= set(ast.literal_eval(_assigned(source).get("__all__", ast.List([]))))
        can = _INTERFACE in source if _ATTENTION.search(source) else True
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                settable[node.name] = can
                for flag in _flags(node):
                    flags[node.name] = flag
    found = {}
    for name in sorted(public & bases.keys()):
        line = list(_line(name, bases))
        if "PreTrainedModel" in line[1:] and not name.endswith(("PreTrainedModel", "PretrainedModel")):
            flag = next((flags[each] for each in line if each in flags), False)
            found[name] = "flag" if flag else "source" if settable[name] else ""
    return found


def _flags(node: ast.ClassDef) -> Iterator[bool]:
    """The value of `_supports_attention_backend` set in a class body."""
    for inner in node.body:
        if isinstance(inner, ast.Assign) and ast.unparse(inner.targets[0]) == "_supports_attention_backend":
            yield bool(ast.literal_eval(inner.value))


def _line(name: str, bases: Mapping[str, list[str]]) -> Iterator[str]:
    """A class, then its base classes."""
    yield name
    for base in bases.get(name, ()):
        if base != name:
            yield from _line(base, bases)


def rows(releases: Sequence[Release], backend: Mapping[str, str]) -> list[dict[str, Any]]:
    """The lines of the table: provenance, one per class in any release, and one per way in which the backend supports
    classes of `transformers`."""
    ordered = sorted(releases, key=lambda release: release.number)
    newest = ordered[-1]
    head = {
        "source": f"vLLM {', '.join(release.name for release in ordered)} ({_REGISTRY}), transformers "
        f"{version('transformers')}",
        "tool": "python -m hfmem.probe.vllm_classes",
        "releases": [release.name for release in ordered],
        "suffixes": list(newest.suffixes),
    }
    names = {*newest.until, *newest.plugins, *(name for release in ordered for name in release.classes)}
    ways = {way: [name for name, taken in backend.items() if taken == way] for way in ("flag", "source", "")}
    return [
        head,
        *({"class": name} | _row(name, ordered) for name in sorted(names)),
        *({"backend": way, "classes": classes} for way, classes in ways.items()),
    ]


def _row(name: str, ordered: Sequence[Release]) -> dict[str, str]:
    """The facts on a class: the first of these releases with it, the last release with it if support has ended, and the
    URL of a plugin that supports it."""
    having = [release for release in ordered if name in release.classes]
    found = {"since": having[0].name} if having else {}
    stated = next((release.until[name] for release in reversed(ordered) if name in release.until), "")
    if name not in ordered[-1].classes and (last := stated or (having[-1].name if having else "")):
        found["until"] = last
    if name in ordered[-1].plugins:
        found["plugin"] = ordered[-1].plugins[name]
    return found


def main(wheels: Sequence[str]) -> None:
    """Write the table for these wheels."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        raise SystemExit("transformers is not installed")
    found = rows([read(Path(wheel)) for wheel in wheels], backend_classes(Path(spec.origin).parent))
    TARGET.write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in found), encoding="ascii")
    print(f"{len(found) - 1} classes, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
