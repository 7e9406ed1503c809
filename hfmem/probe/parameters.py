"""Counts parameters of models that `transformers` can build, on the meta device, without allocating weights."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hfmem.fetcher.values import TensorInfo
from hfmem.mapper.tables import from_tensors
from hfmem.mapper.values import Architecture, ParameterTable

__all__ = ["count", "model_class", "table"]

_CLASSES = (
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)


def count(config: Mapping[str, Any]) -> int:
    """Parameters of the class named in a config.json, counting tied weights once. Custom code is never run.

    Raises:
        LookupError: `transformers` has no class for it.
    """
    return sum(parameter.numel() for parameter in _build(config).parameters())


def table(config: Mapping[str, Any], architecture: Architecture) -> ParameterTable:
    """The parameters as groups, by their names in the class.

    Raises:
        LookupError: `transformers` has no class for it.
    """
    tensors = [
        TensorInfo(name=name, dtype="F32", shape=tuple(parameter.shape), nbytes=4 * parameter.numel(), file="")
        for name, parameter in _build(config).named_parameters()
    ]
    unquantised = {key: value for key, value in config.items() if key != "quantization_config"}
    # the class builds only layers that run, so none may be filtered out as an extra (MTP) layer
    groups = from_tensors(tensors, replace(architecture, layers=None), unquantised).groups
    return ParameterTable(groups=tuple(replace(group, dtype=None, stored_bytes=None) for group in groups))


def _build(config: Mapping[str, Any]) -> Any:
    """An instance of the class named in a config.json, on the meta device."""
    found = model_class(config)
    dropped = ("model_type", "auto_map", "quantization_config")
    rest = {key: value for key, value in copy.deepcopy(dict(config)).items() if key not in dropped}
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return found(CONFIG_MAPPING[config["model_type"]](**rest))
    finally:
        transformers.logging.set_verbosity(level)


def model_class(config: Mapping[str, Any]) -> Any:
    """The class in `architectures`; otherwise the type's class for text generation, otherwise its base model.

    Raises:
        LookupError: `transformers` has no class for it.
    """
    from transformers.models.auto import modeling_auto

    model_type = config.get("model_type")
    if model_type not in CONFIG_MAPPING:
        raise LookupError(model_type)
    for name in config.get("architectures") or ():
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    for mapping in _CLASSES:
        name = getattr(modeling_auto, mapping).get(model_type)
        if name is not None:
            return getattr(transformers, name if isinstance(name, str) else name[0])
    raise LookupError(model_type)
