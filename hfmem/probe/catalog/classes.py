"""Tensor tables from the classes of `transformers`, built on PyTorch's `meta` device without memory.

`transformers` 5 fuses experts and renames tensors on load. Its `revert_weight_conversion`, with which `save_pretrained`
writes files in the original layout, converts the names and shapes of the class back to those of the files.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange, revert_weight_conversion
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hfmem.probe.catalog.families import CLASSES
from hfmem.probe.catalog.tables import Table, stored_dtype

__all__ = ["class_table"]


def class_table(config: dict[str, Any]) -> Table:
    """The tensors in the files of the class named in the config, floating-point ones in the config's dtype."""
    model = _build(config)
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    state = {name: tensor for name, tensor in model.state_dict().items() if name not in tied}
    model._weight_conversions = _conversions(model)
    dtype = stored_dtype(config)
    return {
        name: (dtype if tensor.is_floating_point() else _integer(tensor.dtype), tuple(tensor.shape))
        for name, tensor in revert_weight_conversion(model, state).items()
    }


def _build(config: dict[str, Any]) -> Any:
    values = _unquantized(copy.deepcopy(config))
    architecture = values["architectures"][0]
    model_config = CONFIG_MAPPING[values["model_type"]].from_dict(values)
    with torch.device("meta"):
        return getattr(transformers, CLASSES.get(architecture, architecture))(model_config)


def _unquantized(values: Any) -> Any:
    """The values without any quantization_config, as the class is built unquantized; `quantized` converts its table."""
    if not isinstance(values, dict):
        return values
    return {key: _unquantized(value) for key, value in values.items() if key != "quantization_config"}


def _conversions(model: Any) -> list[Any]:
    """The weight conversions to revert.

    Changes of prefixes depend on the head that a file was saved with, so `transformers` omits them for a model that was
    not loaded from files. The vision and text towers of CLIP and SigLIP are an exception: files from before version 5
    always have `vision_model.` and `text_model.` there (`vision_tower.vision_model.encoder.…`).
    """
    return [
        conversion
        for conversion in get_model_conversion_mapping(model, add_legacy=False)
        if not isinstance(conversion, PrefixChange) or conversion.prefix_to_remove in ("vision_model", "text_model")
    ]


def _integer(dtype: Any) -> str:
    return {torch.int64: "I64", torch.int32: "I32", torch.uint8: "U8", torch.bool: "BOOL"}[dtype]
