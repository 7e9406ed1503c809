"""Writes `hfmem/data/pipelines.jsonl`: the catalog of pipelines, from the real classes on PyTorch's meta device.

python -m hfmem.probe.pipelines --configs DIR [--only org/name]

`DIR` has the folders that `hfmem.probe.pipelines.models` names. The first line says what the table was made with; a
line with `component` is one component, which pipelines share; a line with `model` is a pipeline.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hfmem.data
from hfmem.fetcher import catalog
from hfmem.fetcher.patterns import compress
from hfmem.fetcher.values import ModelRef
from hfmem.probe.pipelines.models import MODELS, Listing, Part

__all__ = ["main", "rows"]

_NOT_SIZES = (
    "_class_name",
    "_diffusers_version",
    "_name_or_path",
    "_commit_hash",
    "transformers_version",
    "torch_dtype",
)


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", type=Path, required=True, help="folder of collected configs")
    parser.add_argument("--only", action="append", default=[], help="show these pipelines, and write nothing")
    arguments = parser.parse_args()
    if arguments.only:
        for name in arguments.only:
            for key, part in MODELS[name].parts.items():
                print(key, part.cls, sum(_elements(row) for row in rows(part, config_of(part, arguments.configs))))
        return
    lines = list(_lines(arguments.configs))
    path = Path(hfmem.data.__file__).parent / "pipelines.jsonl"
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), encoding="utf-8")
    print(f"{len(MODELS)} pipelines in {path.name}, {path.stat().st_size:,} bytes")


def _lines(configs: Path) -> Iterator[dict[str, Any]]:
    made = f"diffusers {version('diffusers')}, transformers {version('transformers')}, PyTorch's meta device"
    yield {"source": made}
    keys: dict[str, str] = {}
    listed: list[dict[str, Any]] = []
    for name, listing in MODELS.items():
        parts = {}
        for key, part in listing.parts.items():
            config = config_of(part, configs)
            facts = json.dumps([part.library, part.cls, config], sort_keys=True)
            if facts not in keys:
                keys[facts] = f"{part.cls} {len(keys) + 1}"
                found = compress((tensor, "", shape) for tensor, shape in rows(part, config))
                yield {
                    "component": keys[facts],
                    "library": part.library,
                    "class": part.cls,
                    "config": config,
                    "source": _source(part, configs),
                    "tensors": [[pattern, shape] for pattern, _, shape in found],
                }
            parts[key] = [keys[facts], part.dtype]
        listed.append(_model(name, listing, parts))
    yield from listed


def _model(name: str, listing: Listing, parts: Mapping[str, Any]) -> dict[str, Any]:
    line = {"model": name, "class": listing.cls, "settings": listing.settings, "components": parts}
    return {**line, "aliases": listing.aliases} if listing.aliases else line


def config_of(part: Part, configs: Path) -> dict[str, Any]:
    """The config of a component, without what does not concern its sizes."""
    if isinstance(part.config, str) and part.config.startswith("catalog:"):
        known = catalog.find(ModelRef(model_id=part.config.removeprefix("catalog:")))
        if known is None or known.config is None:
            raise KeyError(part.config)
        found: dict[str, Any] = dict(known.config)
    elif isinstance(part.config, str):
        found = json.loads((configs / part.config / "config.json").read_text(encoding="utf-8"))
    else:
        found = dict(part.config)
    found |= part.more
    return {key: value for key, value in found.items() if key not in _NOT_SIZES}


def _source(part: Part, configs: Path) -> str:
    if not isinstance(part.config, str):
        return part.source
    if part.config.startswith("catalog:"):
        return f"config of {part.config.removeprefix('catalog:')} in the bundled catalog"
    known = json.loads((configs / "SOURCES.json").read_text(encoding="utf-8"))
    return str(known[f"cfg/{part.config}/config.json"])


def rows(part: Part, config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors that a class stores: its parameters, tied ones once, and persistent buffers."""
    import torch

    with torch.device("meta"):
        model = _built(part, dict(config))
    seen: set[int] = set()
    named = dict(model.named_parameters(remove_duplicate=True))
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen or (isinstance(tensor, torch.nn.Parameter) and name not in named):
            continue
        seen.add(id(tensor))
        if tensor.is_floating_point():
            yield name, tuple(tensor.shape)


def _built(part: Part, config: dict[str, Any]) -> Any:
    if part.library == "transformers":
        import transformers

        cls = getattr(transformers, part.cls)
        return cls._from_config(cls.config_class.from_dict(config))
    if part.cls == "StableDiffusionSafetyChecker":
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

        return StableDiffusionSafetyChecker(StableDiffusionSafetyChecker.config_class.from_dict(config))
    if part.cls == "ChatGLMModel":
        from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

        return ChatGLMModel(ChatGLMConfig(**config))
    home = "diffusers" if part.library == "diffusers" else f"diffusers.pipelines.deprecated.{part.library}"
    return getattr(import_module(home), part.cls).from_config(config)


def _elements(row: tuple[str, tuple[int, ...]]) -> int:
    count = 1
    for size in row[1]:
        count *= size
    return count


if __name__ == "__main__":
    main()
