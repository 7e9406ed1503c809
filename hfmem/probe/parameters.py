"""Parameters of every model that `transformers` can build, counted on the meta device: no weights, no memory."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

__all__ = ["count"]

_CLASSES = (
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_MAPPING_NAMES",
)


def count(config: Mapping[str, Any]) -> int:
    """Parameters of the class that a config.json names, tied weights once. Code of the repository is never run.

    Raises:
        LookupError: `transformers` has no class for it.
    """
    found = _model_class(config)
    dropped = ("model_type", "auto_map", "quantization_config")
    rest = {key: value for key, value in copy.deepcopy(dict(config)).items() if key not in dropped}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = found(CONFIG_MAPPING[config["model_type"]](**rest))
    return sum(parameter.numel() for parameter in model.parameters())


def _model_class(config: Mapping[str, Any]) -> Any:
    """The class of `architectures`; without one, the class that generates text from the type, else its base model."""
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
