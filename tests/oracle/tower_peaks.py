"""Records fixtures/oracle/tower_peaks.json: what towers of published models need for one image, at their own sizes.

python -m tests.oracle.tower_peaks [MODEL ...]

The real class runs with the config of the catalog, all of its tower's layers and none of its decoder's, and the bytes
of all storages alive at once are counted while it runs, by other means than the probe's. Where a tower takes images of
any size, the image has `GRID` patches.
"""

from __future__ import annotations

import json
import sys
import warnings
import weakref
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from math import isqrt
from pathlib import Path
from typing import Any, Final

RECORDED: Final = Path(__file__).parents[2] / "fixtures" / "oracle" / "tower_peaks.json"
TABLE: Final = Path(__file__).parents[2] / "hfmem" / "data" / "towers.jsonl"
CATALOG: Final = Path(__file__).parents[2] / "hfmem" / "data" / "catalog.jsonl"
GRID: Final = (24, 36)
"""Rows and columns of patches, where a tower takes images of any size."""

SIDE: Final = 1024
"""Pixels of a side, where it cuts them into tiles."""

DEFAULTS: Final = "defaults-of/"
"""Begins the name of a config class's own sizes."""

_SO400M: Final = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27}
_CHANGED: Final[dict[str, dict[str, Any]]] = {
    "aya_vision": {
        "vision_config": {"model_type": "siglip_vision_model", **_SO400M, "image_size": 364, "patch_size": 14}
    },
    "idefics3": {"scale_factor": 2, "vision_config": {**_SO400M, "image_size": 364, "patch_size": 14}},
    "smolvlm": {
        "scale_factor": 4,
        "vision_config": {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "image_size": 512,
            "patch_size": 16,
        },
    },
}
"""Sizes of aya-vision-8b, Idefics3-8B-Llama3 and SmolVLM-500M; the defaults of their config classes do not go together
(14 heads for 1,152 channels; 7 rows of patches, shuffled by two), and the classes refuse them."""

_FEW: Final = {"vocab_size": 512, "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4}
"""Sizes of a decoder, which does not run: fewer make it sooner built."""


def rows() -> dict[tuple[str, str], dict[str, Any]]:
    """The measured polynomials."""
    lines = map(json.loads, TABLE.read_text(encoding="utf-8").splitlines()[1:])
    return {(row["type"], row["attention"]): row for row in lines}


def configs(known: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of the catalog's models of some types, each tower once; of a type without one, its config class's defaults, which
    are the sizes of a published model, or such a model's where those do not go together."""
    types = set(known)
    found = _published(types)
    rest = types - {config["model_type"] for config in found.values()}
    return {**found, **{f"{DEFAULTS}{name}": config for name in sorted(rest) for config in _defaults(name)}}


def _defaults(model_type: str) -> list[dict[str, Any]]:
    """What a config class has without any key, if it is made of a tower and a decoder."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = CONFIG_MAPPING[model_type](**_CHANGED.get(model_type, {}))
    return [config.to_dict()] if getattr(config, "vision_config", None) is not None else []


def told(config: dict[str, Any]) -> dict[str, Any]:
    """The part of a config that tells of the tower and its projector."""
    kept = {
        key: value for key, value in config.items() if value is None or isinstance(value, (str, int, float, bool, list))
    }
    parts = ("vision_config", "qformer_config", "perceiver_config")
    text = {"hidden_size": config.get("hidden_size") or config["text_config"]["hidden_size"]}
    return {**kept, **{part: config[part] for part in parts if config.get(part)}, "text_config": text}


def _published(types: set[str]) -> dict[str, dict[str, Any]]:
    """Of the catalog's models."""
    lines = (json.loads(line) for line in CATALOG.read_text(encoding="utf-8").splitlines()[1:])
    made: dict[str, tuple[str, dict[str, Any]]] = {}
    for line in lines:
        config = line.get("config")
        if isinstance(config, dict) and config.get("model_type") in types and config.get("vision_config"):
            width = config.get("text_config", config).get("hidden_size")
            tower = json.dumps([config["model_type"], config["vision_config"], width], sort_keys=True)
            made.setdefault(tower, (line["model"], config))
    return dict(made.values())


def built(config: dict[str, Any], attention: str) -> Any:
    """The class with a decoder of one layer, and weights without memory.

    Fake tensors are made by their mode and run without it: what is computed of real ones alone, such as the grid of an
    image, is real, and can be read while the tower runs.
    """
    import torch
    import transformers
    from torch._subclasses.fake_tensor import FakeTensorMode
    from transformers.initialization import no_init_weights

    from hfmem.probe import tiny
    from hfmem.probe.towers import built as of_class

    made = transformers.AutoConfig.for_model(**config)
    text = made.get_text_config()
    kinds = getattr(text, "layer_types", None)
    text.num_hidden_layers = 1
    if kinds:
        text.layer_types = [kinds[-1]]
    for key, few in _FEW.items():
        if isinstance(getattr(text, key, None), int):
            setattr(text, key, few)
    if getattr(text, "pad_token_id", None):
        text.pad_token_id = 0
    kind = getattr(transformers, tiny.GROUPS["image-text"][config["model_type"]])
    with FakeTensorMode(allow_non_fake_inputs=True), torch.device("cpu"), no_init_weights():
        return of_class(kind, made, attention)


def inputs_of(
    config: Any, parameters: Iterable[str], grid: tuple[int, int] = GRID, images: int = 1
) -> tuple[dict[str, Any], dict[str, int]]:
    """One image as the class takes it, or several where all are of the tower's own size, and the sizes that tell of
    it."""
    import torch

    from hfmem.probe.tower_inputs import merge_of

    vision, names = config.vision_config, set(parameters)
    patch = getattr(vision, "patch_size", None)
    patch = patch[0] if isinstance(patch, (list, tuple)) else patch
    rows, columns = grid
    frames = getattr(vision, "temporal_patch_size", None) or 1
    values = 3 * frames * patch**2
    flat = torch.empty(rows * columns, values)
    merge = merge_of(vision)
    counts = {"b": 1, "s": rows * columns, "rows": rows // merge, "columns": columns // merge}
    if "image_grid_thw" in names:
        return {"pixel_values": flat, "image_grid_thw": torch.tensor([[1, rows, columns]])}, counts
    if "image_grid_hws" in names or "image_grid_hw" in names:
        name = "image_grid_hws" if "image_grid_hws" in names else "image_grid_hw"
        return {"pixel_values": flat, name: torch.tensor([[rows, columns]])}, counts
    if "image_position_ids" in names:
        places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).flip(-1)
        return {"pixel_values": flat[None], "image_position_ids": places[None]}, counts
    if "image_sizes" in names and not hasattr(config, "image_grid_pinpoints") and hasattr(vision, "rope_parameters"):
        pixels = torch.empty(1, 3, rows * patch, columns * patch)
        return {"pixel_values": pixels, "image_sizes": torch.tensor([[rows * patch, columns * patch]])}, counts
    size = vision.image_size[0] if isinstance(vision.image_size, (list, tuple)) else vision.image_size
    side = size // patch
    if "image_sizes" in names and hasattr(config, "image_grid_pinpoints"):
        from transformers.image_processing_utils import select_best_resolution

        height, width = select_best_resolution((SIDE, SIDE), config.image_grid_pinpoints)
        tiles = height * width // size**2  # and the whole image
        pixels = torch.empty(1, 1 + tiles, 3, size, size)
        counts = {"b": 1 + tiles, "s": side**2, "tiles": tiles}
        return {"pixel_values": pixels, "image_sizes": torch.tensor([[SIDE, SIDE]])}, counts
    return {"pixel_values": torch.empty(images, 3, size, size)}, {"b": images, "s": side**2}


@cache
def _taken(model_type: str) -> tuple[Any, int]:
    """The dtype and the number of dimensions of pixels that a small model of the type takes, which is really run: fake
    tensors of other dtypes would not be refused."""
    from hfmem.probe import towers

    seen: list[Any] = []

    def trace(name: str, config: Any, attention: str, layout: Any) -> Any:
        found = towers.traced(name, config, attention, layout)
        seen.append(layout.inputs["pixel_values"])
        return found

    for seed in range(towers.MOST):
        with suppress(*towers.REFUSALS):
            towers.run(model_type, seed, "sdpa", trace=trace)
            break
    return seen[-1].dtype, seen[-1].dim()


def given(
    config: Any, model: Any, grid: tuple[int, int] = GRID, images: int = 1
) -> tuple[dict[str, Any], dict[str, int]]:
    """One image without memory (or several), in the dtype and shape that the class takes, and the sizes that tell of
    it."""
    import torch

    from hfmem.probe.towers import parameters_of

    inputs, counts = inputs_of(config, parameters_of(type(model).__name__), grid, images)
    dtype, dimensions = _taken(config.model_type)
    pixels = inputs["pixel_values"].to(dtype)
    if pixels.dim() == 2 and dimensions == 4:  # patches as squares
        side = isqrt(pixels.shape[1] // 3)
        pixels = pixels.view(-1, 3, side, side)
    if pixels.dim() == 4 and dimensions == 5:  # the images of each prompt
        pixels = pixels[None]
    if "pixel_attention_mask" in parameters_of(type(model).__name__):  # the class looks for images that are padding
        return {**inputs, "pixel_values": torch.ones_like(pixels)}, counts
    mode = next(model.parameters()).fake_mode
    return {**inputs, "pixel_values": mode.from_tensor(pixels)}, counts


def peak(model: Any, inputs: dict[str, Any], run: Any) -> int:
    """Bytes of all storages alive at once while the tower runs, without weights and inputs."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    given = {one.untyped_storage()._cdata for one in (*model.parameters(), *model.buffers(), *inputs.values())}
    alive: dict[int, int] = {}
    highest = 0

    class Counting(TorchDispatchMode):  # type: ignore[misc] # PyTorch is untyped here
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal highest
            found = func(*args, **(kwargs or {}))
            for one in tree_leaves(found):
                if isinstance(one, torch.Tensor) and one.untyped_storage()._cdata not in given:
                    storage = one.untyped_storage()
                    if storage._cdata not in alive:
                        alive[storage._cdata] = storage.nbytes()
                        weakref.finalize(storage, alive.pop, storage._cdata, 0)
            highest = max(highest, sum(alive.values()))
            return found

    with torch.no_grad(), Counting():
        run(**inputs)
    return highest


def measure(config: dict[str, Any], attention: str) -> dict[str, Any]:
    """Sizes of one image, and bytes at the peak of its forward pass."""
    from hfmem.probe.activations.flash import fused_attention
    from hfmem.probe.towers import features

    with fused_attention():
        model = built(config, attention).eval()
        inputs, counts = given(model.config, model)
        return {"sizes": counts, "peak": peak(model, inputs, features(model))}


def main() -> int:
    """Record every model, or those that are named."""
    warnings.simplefilter("ignore")
    old = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    found, made = old.get("peaks", {}), old.get("configs", {})
    for model, config in sorted(configs(name for name, _ in rows()).items()):
        if sys.argv[1:] and model not in sys.argv[1:]:
            continue
        try:
            found[model] = measure(config, "sdpa")
            made |= {model: told(config)} if model.startswith(DEFAULTS) else {}
            print(model, found[model], flush=True)
        except Exception as error:  # a class may refuse any of this
            print(model, type(error).__name__, str(error)[:300], flush=True)
        _write({"peaks": found, "configs": made})
    return 0


def _write(found: dict[str, dict[str, Any]]) -> None:
    source = json.loads(TABLE.read_text(encoding="utf-8").splitlines()[0])["source"]
    body = json.dumps({"source": source, **{key: dict(sorted(each.items())) for key, each in found.items()}}, indent=1)
    RECORDED.write_text(body + "\n", encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
