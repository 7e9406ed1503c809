"""`python -m hfmem.probe.diffusers.pipelines`: writes `hfmem/data/diffusers_pipelines.jsonl`, what each class of
pipelines and of VAEs does by default, read from the source of the installed diffusers without running it."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from hfmem.probe.diffusers.source import Source

_TABLE: Final = Path(__file__).parents[2] / "data" / "diffusers_pipelines.jsonl"

# the latents are doubled (or tripled) before the network is called, instead of calling it twice
_CONCATENATES: Final = re.compile(
    r"torch\.cat\(\s*\[\s*(?:latents|latent_model_input|image_latents)\s*\]\s*\*\s*(?:(\d)|\(num_cfg \+ 1\))"
    r"|torch\.cat\(\s*\[\s*latents\s*,\s*latents\s*\]|\.repeat\((2)(?:, 1)+\)|torch\.cat\(\s*\(latents\)\s*\*\s*(\d)"
)


def main() -> None:
    """Write the table."""
    spec = find_spec("diffusers")
    if spec is None or spec.origin is None:
        raise SystemExit("diffusers is not installed")
    home = Path(spec.origin).parent
    rows = sorted(_rows(home / "pipelines"), key=lambda row: row["pipeline"])
    rows += sorted(_coders(home / "models" / "autoencoders"), key=lambda row: row["vae"])
    _TABLE.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _rows(root: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(root.rglob("pipeline_*.py")):
        source = path.read_text()
        beside = path.with_name("image_processor.py")
        processors = beside.read_text() if beside.exists() else ""
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef) and any("DiffusionPipeline" in ast.unparse(base) for base in node.bases):
                yield _row(node, (source, processors), str(path.relative_to(root.parent)))


def _row(node: ast.ClassDef, texts: tuple[str, str], where: str) -> dict[str, Any]:
    """The row of a class, by the texts of its module and of the image processors beside it."""
    source, processors = texts
    methods = {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    start, call = methods.get("__init__"), methods.get("__call__")
    told = Source(node, source)
    own = told.text
    defaults = _defaults(call) if call is not None else {}
    multiplied = _CONCATENATES.search(own)
    encoded = methods.get("encode_prompt") or methods.get("_get_t5_prompt_embeds")
    length = defaults.get("max_sequence_length", _defaults(encoded).get("max_sequence_length") if encoded else None)
    row = {
        "pipeline": node.name,
        "height": _size(own, "height", defaults),
        "width": _size(own, "width", defaults),
        "target": _target(own),
        "frames": _video(told, defaults),
        "sample": _sample(start, source),
        "guidance": defaults.get("guidance_scale"),
        "true_cfg": defaults.get("true_cfg_scale"),
        "concatenates": int(next(filter(None, multiplied.groups()), 2)) if multiplied else 1,
        "text": length or _longest(own),
        "encodes": "vae.encode(" in own,
        "decodes": "vae.decode(" in own,
        "states": "output_hidden_states=True" in own or None,
        "tokenizers": sorted(set(re.findall(r"self\.(tokenizer\w*)\b", own))),
        "takes": told.takes(),
        "order": told.attribute("model_cpu_offload_seq") or "",
        "stays": told.attribute("_exclude_from_cpu_offload"),
        "upcasts": told.upcasts() or None,
        "area": told.max_area() or told.base_area(processors),
        "joins": _joined(told) if told.joins() else _frames(told) if told.added() else None,
        **told.edge(),
        "source": f"diffusers {version('diffusers')}, {where}",
    }
    return {key: value for key, value in row.items() if value not in (None, [], "")}


def _joined(told: Source) -> dict[str, Any]:
    found = {
        "images": told.example_images(),
        "prompt": told.prompt_area(),
        "several": told.several() or None,
        "cached": told.keeps_image() or None,
        **told.reference(),
    }
    return {key: value for key, value in found.items() if value is not None}


def _frames(told: Source) -> dict[str, Any]:
    found = {
        "images": told.example_images(),
        "prompt": told.prompt_area(),
        "several": told.added() > 1 or None,
        "frames": True,
        "decoded": told.decodes_images() or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def _coders(root: Path) -> Iterator[dict[str, Any]]:
    """What classes of VAEs do by default, and whether they decode in tiles and one by one when asked."""
    for path in sorted(root.glob("*.py")):
        source = path.read_text()
        for node in ast.parse(source).body:
            told = Source(node, source) if isinstance(node, ast.ClassDef) else None
            start = told.methods.get("__init__") if told is not None else None
            if told is None or start is None or "ModelMixin" not in map(ast.unparse, told.node.bases):
                continue
            row = {
                "vae": told.node.name,
                "upcast": bool(_defaults(start).get("force_upcast")),
                "tiles": "self.use_tiling" in told.text,
                "slices": "self.use_slicing" in told.text,
                "source": f"diffusers {version('diffusers')}, {path.relative_to(root.parents[1])}",
            }
            yield row


def _defaults(function: ast.FunctionDef) -> dict[str, Any]:
    found = {}
    arguments = function.args.args[len(function.args.args) - len(function.args.defaults) :]
    pairs = [
        *zip(arguments, function.args.defaults, strict=True),
        *zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        try:
            found[argument.arg] = ast.literal_eval(default) if default is not None else None
        except ValueError:
            continue
    return found


def _video(told: Source, defaults: dict[str, Any]) -> Any:
    """The default number of frames: of the call, of the segments that it makes one after another, or, where the call
    finds it out from what it is given, what it falls back to, or the default of what prepares the latents."""
    found = _size(told.text, "num_frames", defaults) or defaults.get("segment_frame_length")
    assigned = re.search(r"^\s+num_frames = (\d+)$", told.text, re.MULTILINE)
    if found is None and "num_frames" in defaults and assigned is not None:
        return int(assigned.group(1))
    if found is None and "num_frames" in defaults and "prepare_latents" in told.methods:
        prepared = _defaults(told.methods["prepare_latents"])
        found = prepared.get("num_frames") or prepared.get("num_frames_out")
    return found


def _size(own: str, name: str, defaults: dict[str, Any]) -> Any:
    """The default of a size: a number, or the product that the class computes."""
    if isinstance(defaults.get(name), int):
        return defaults[name]
    found = re.search(rf"^\s*{name} = {name} or (.+)$", own, re.MULTILINE) or re.search(
        rf"^\s*{name} = (.+?) if {name} is None else {name}$", own, re.MULTILINE
    )
    if found is None:
        pair = re.search(r"if height is None and width is None:(.*?)\n\s*\n", own, re.DOTALL)
        found = pair and re.search(rf"^\s*{name} = (.+)$|^\s*height, width = (.+)$", pair.group(1), re.MULTILINE)
    if found is None:
        return None
    text = next(filter(None, found.groups())).strip()
    default = re.fullmatch(r"self\.default_(height|width|num_frames)", text)
    if default is not None:
        inner = re.search(rf"self\.default_{default.group(1)} = (\d+)", own)
        text = inner.group(1) if inner else text
    text = text.replace("self.", "").replace(".config", "")
    return int(text) if text.isdigit() else text


def _longest(own: str) -> int | None:
    """The tokens that every prompt is padded to, where the class has a number of its own."""
    found = re.search(r"self\.tokenizer_max_length = (\d+)$", own, re.MULTILINE)
    return int(found.group(1)) if found else None


def _target(own: str) -> list[Any] | None:
    """The component and the key of its config that tell the side of a square as large as what is made, with the number
    that stands for it else; None where the class has none."""
    found = re.search(r"self\.target_size = self\.(\w+)\.config\.(\w+) if .* else (\d+)$", own, re.MULTILINE)
    return [found.group(1), found.group(2), int(found.group(3))] if found else None


def _sample(start: ast.FunctionDef | None, source: str) -> Any:
    """`default_sample_size`: a number, and the component whose config comes before it."""
    if start is None:
        return None
    text = ast.get_source_segment(source, start) or ""
    found = re.search(r"self\.default_sample_size = (\(.*?\n\s*\)|[^\n]+)", text, re.DOTALL)
    if found is None:
        return None
    number = re.findall(r"\b(\d+)\b", found.group(1))
    component = re.search(r"self\.(\w+)\.config\.sample_size", found.group(1))
    return [component.group(1) if component else "", int(number[-1]) if number else 0]


if __name__ == "__main__":
    main()
