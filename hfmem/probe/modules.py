"""Writes `data/modules.jsonl`: the modules of classes of the installed `transformers`, in the order in which
`device_map` places them.

    python -m hfmem.probe.modules

A line is an outline that classes share: modules by name, `"#"` for the blocks of the decoder, which are never split,
the names of parameters for modules of their own, and a number for those that only have buffers: their bytes for one
element of an attention head. `float32` has the components and roles that the class makes in float32 whatever the run
dtype. Classes whose decoder has other parts that may be split have no line: vision towers,
encoder-decoders, and those without blocks.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from torch import nn
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from hfmem.mapper.names import meaning
from hfmem.probe import tiny
from hfmem.probe.placer import made

__all__ = ["TARGET", "outline"]

TARGET: Final = Path(__file__).parent.parent / "data" / "modules.jsonl"
_TIED: Final = ("tie_word_embeddings", True)
_MAPPINGS: Final = ("CAUSAL_LM", "MASKED_LM", "SEQUENCE_CLASSIFICATION")


def main() -> None:
    """Write the table: provenance, then one line per outline with the classes and the types that they are usual for."""
    head = {"source": f"transformers {transformers.__version__}", "tool": "python -m hfmem.probe.modules"}
    rows: dict[str, dict[str, Any]] = defaultdict(lambda: {"classes": {}})
    for (model_type, name), usual in sorted(_classes().items()):
        try:
            found = outline(made(getattr(transformers, name), CONFIG_MAPPING[model_type](), torch.bfloat16))
        except Exception as error:  # a class may reject the sizes or miss a package with any exception
            print(f"{name}: {type(error).__name__}")
            continue
        if found is not None:
            classes = rows[json.dumps(found, separators=(",", ":"))]["classes"]
            classes[name] = sorted({*classes.get(name, ()), *([model_type] if usual else [])})
    lines = [head]
    lines += [
        {**row, **json.loads(text)} for text, row in sorted(rows.items(), key=lambda item: min(item[1]["classes"]))
    ]
    TARGET.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    print(f"{len(rows)} outlines of {sum(len(row['classes']) for row in rows.values())} classes")


def _classes() -> dict[tuple[str, str], bool]:
    """Types with their classes, and whether the class is the usual one of a type."""
    found: dict[tuple[str, str], bool] = {}
    for name, (_, usual) in tiny.types().items():
        model_type = name.partition(":")[0]
        found[tiny.config_type(model_type, usual), usual] = ":" not in name
    mappings = [getattr(modeling_auto, f"MODEL_FOR_{one}_MAPPING_NAMES") for one in _MAPPINGS]
    text = {model_type for names in mappings for model_type in names}
    for names in (*mappings, {one: name for one, name in MODEL_MAPPING_NAMES.items() if one in text}):
        for model_type, name in names.items():
            first = name if isinstance(name, str) else name[0]
            found.setdefault((model_type, first), False)
    return found


def outline(model: Any) -> dict[str, Any] | None:
    """The modules of a model and the parameters that are one tensor if embeddings are tied; None for models with other
    parts."""
    whole = frozenset(model._no_split_modules or ())
    lists = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and {type(one).__name__ for one in module} <= whole and len(module)
    ]
    others = {meaning(name, len(one.shape)).component for name, one in model.named_parameters()}
    if len(lists) != 1 or others & {"vision", "audio", "projector"}:
        return None
    text = model.config.get_text_config()
    heads = getattr(text, "num_attention_heads", None) or 1
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    found = _children("", model, whole, lists[0], width)
    setattr(model.config, *_TIED)
    tied = model.get_expanded_tied_weights_keys(all_submodels=False)
    pairs = [[name, other] for name, other in sorted(tied.items()) if name.endswith(".weight")]
    wide = {
        (of.component, of.role)
        for name, one in model.named_parameters()
        if one.dtype == torch.float32 and (of := meaning(name, len(one.shape)))
    }
    return None if found is None else {"modules": found, "tied": pairs, "float32": sorted(map(list, wide))}


def _children(name: str, module: Any, whole: frozenset[str], blocks: str, width: int) -> dict[str, Any] | None:
    """What is in a module; None where it has tensors of its own beside modules."""
    if any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False)):
        return None
    found: dict[str, Any] = {}
    for key, child in module.named_children():
        full = f"{name}.{key}" if name else key
        if full == blocks:
            found[key] = "#"
        elif type(child).__name__ in whole or not any(True for _ in child.children()):
            own = [inner for inner, _ in child.named_parameters()]
            size = sum(one.numel() * one.element_size() for one in child.buffers())
            found[key] = own or round(size / width, 4)
        else:
            found[key] = _children(full, child, whole, blocks, width)
            if found[key] is None:
                return None
    return found


if __name__ == "__main__":
    main()
