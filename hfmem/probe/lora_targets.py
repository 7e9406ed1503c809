"""Writes `hfmem/data/lora_targets.json` from the installed PEFT: the default target modules by model type, and the
types whose experts are stored in one parameter, with the module names that PEFT maps to it.

python -m hfmem.probe.lora_targets
"""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hfmem.data


def main() -> None:
    """Write the table with the library versions that it comes from."""
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as TARGETS
    from peft.utils.transformers_weight_conversion import _MODEL_TO_CONVERSION_PATTERN as PATTERNS
    from peft.utils.transformers_weight_conversion import _MOE_TARGET_MODULE_MAPPING as MOVED
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    experts = {
        model_type: MOVED[pattern]
        for model_type, pattern in sorted(PATTERNS.items())
        if pattern in MOVED and get_checkpoint_conversion_mapping(model_type) is not None
    }
    document = {
        "source": f"peft {version('peft')} (utils/constants.py, utils/transformers_weight_conversion.py) with "
        f"transformers {version('transformers')}",
        "targets": {model_type: _names(names) for model_type, names in sorted(TARGETS.items())},
        "methods": _methods(),
        "experts": experts,
    }
    path = Path(hfmem.data.__file__).parent / "lora_targets.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"{len(document['targets'])} defaults and {len(experts)} types with fused experts in {path.name}")


def _methods() -> dict[str, dict[str, list[str]]]:
    """The defaults of PEFT's other methods, of those types whose targets are not LoRA's."""
    from peft.utils import constants

    lora = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
    tables = {
        "adalora": constants.TRANSFORMERS_MODELS_TO_ADALORA_TARGET_MODULES_MAPPING,
        "boft": constants.TRANSFORMERS_MODELS_TO_BOFT_TARGET_MODULES_MAPPING,
        "ia3": constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
        "ia3 feed-forward": constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
        "loha": constants.TRANSFORMERS_MODELS_TO_LOHA_TARGET_MODULES_MAPPING,
        "lokr": constants.TRANSFORMERS_MODELS_TO_LOKR_TARGET_MODULES_MAPPING,
        "oft": constants.TRANSFORMERS_MODELS_TO_OFT_TARGET_MODULES_MAPPING,
        "vera": constants.TRANSFORMERS_MODELS_TO_VERA_TARGET_MODULES_MAPPING,
    }
    found = {}
    for method, table in tables.items():
        types = sorted({*table, *lora})
        changed = {kind: _names(table.get(kind, [])) for kind in types if table.get(kind) != lora.get(kind)}
        found[method] = changed
    return {method: changed for method, changed in found.items() if changed}


def _names(found: Any) -> list[str]:
    """The target names; if PEFT gives a pattern for the text model of a multimodal model, its alternatives.

    Raises:
        ValueError: a pattern of another form.
    """
    if not isinstance(found, str):
        return sorted(found)
    match = re.fullmatch(r"\.\*language_model\\\.\.\*\\\.\(([\w|]+)\)", found)
    if match is None:
        raise ValueError(f"unexpected pattern: {found}")
    return [f"language_model.{name}" for name in sorted(match[1].split("|"))]


if __name__ == "__main__":
    main()
