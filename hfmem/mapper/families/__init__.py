"""Architecture families, one module each, with a function `read(facts) -> Blueprint`.

To add an architecture, add a row to the table of a related family (`DIALECTS` in llama.py for dense decoders, in
mixtral.py for mixtures of experts; `OWN` in own_code.py for remote code; `WHOLES` in multimodal.py for models with
towers), or a module named after the model type, which is discovered by its name. The oracle tests then compare it with
the real class. Modules are imported when a model of their family is read.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Final, cast

from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.facts import Facts

__all__ = ["known_types", "reader", "types_of"]

Reader = Callable[[Facts], Blueprint]

_TABLES: Final = ("llama", "mixtral", "own_code", "multimodal")
"""Modules that read several model types, listed in their `TYPES`."""

_MODULES: Final[dict[str, str]] = {
    **dict.fromkeys(("codegen", "gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neo", "gptj"), "gpt2"),
    **dict.fromkeys(("bloom", "falcon", "gpt_neox", "mpt"), "gpt_neox"),
    **dict.fromkeys(
        (
            "axk1",
            "axk2",
            "deepseek_v2",
            "deepseek_v3",
            "deepseek_v32",
            "glm4_moe_lite",
            "glm_moe_dsa",
            "hy_v4",
            "kimi_k2",
            "minicpm3",
            "mistral4",
            "youtu",
        ),
        "deepseek",
    ),
    **dict.fromkeys(
        (
            "albert",
            "bert",
            "bert-generation",
            "camembert",
            "data2vec-text",
            "distilbert",
            "electra",
            "ernie",
            "megatron-bert",
            "mpnet",
            "roberta",
            "roberta-prelayernorm",
            "roformer",
            "xlm-roberta",
            "xlm-roberta-xl",
        ),
        "bert",
    ),
    **dict.fromkeys(("deepseek_ref", "deepseek_v4"), "deepseek_v4"),
    **dict.fromkeys(
        ("deepseek_vl_v2", "internvl_chat", "kimi_k3", "locateanything", "multi_modality", "phi3_v"), "own_parts"
    ),
    **dict.fromkeys(("laguna", "step3p5", "step3p7"), "laguna"),
    **dict.fromkeys(("minimax_m3", "minimax_m3_vl_text"), "minimax_m3"),
    **dict.fromkeys(("biogpt", "cpmant", "ctrl", "gpt_neox_japanese", "openai-gpt", "xglm"), "older"),
    "dots3_note_text": "dots3",
    "glm5_next_text": "glm5_next",
    "longcat_flash": "longcat",
    "mistral_large4_text": "mistral_large4",
    "mimo_v2_flash": "mimo_v2",
    "nemotron-nas": "nemotron_nas",
    "deberta-v2": "deberta",
    **dict.fromkeys(("modernbert", "nomic_bert"), "modernbert"),
    **dict.fromkeys(("gemma3", "gemma3_text", "shieldgemma2"), "gemma3"),
    **dict.fromkeys(("gemma3n_text", "gemma4_text", "gemma4_unified_text"), "gemma4"),
    **dict.fromkeys(
        (
            "bart",
            "bigbird_pegasus",
            "blenderbot",
            "blenderbot-small",
            "led",
            "m2m_100",
            "marian",
            "mbart",
            "mvp",
            "pegasus",
            "pegasus_x",
            "plbart",
            "speech_to_text",
            "whisper",
        ),
        "bart",
    ),
    **dict.fromkeys(("longt5", "mt5", "t5", "umt5"), "t5"),
    "llama4_text": "llama4",
    **dict.fromkeys(("encoder-decoder", "vision-encoder-decoder"), "pairs"),
    "donut-swin": "donut_swin",
    **dict.fromkeys(("deit", "vit", "yolos"), "vit"),
    "mllama_text_model": "mllama",
    **dict.fromkeys(("falcon_mamba", "mamba", "mamba2"), "mamba"),
    "inkling_text": "inkling",
    "inkling2_text": "inkling2",
    **dict.fromkeys(("zamba", "zamba2"), "zamba"),
    **dict.fromkeys(("bamba", "falcon_h1", "granitemoehybrid"), "bamba"),
    **dict.fromkeys(("qwen3_5_moe_text", "qwen3_5_text", "qwen3_next"), "qwen3_next"),
    "qwen4_exp_text": "qwen4_exp",
    **dict.fromkeys(("bailing_hybrid", "kimi_linear"), "kimi_linear"),
    **dict.fromkeys(("lfm2", "lfm2_moe", "lfm3"), "lfm2"),
}
"""The module of each model type that is not named after the type: shared modules, and types of a model's parts."""

_SHARED: Final = frozenset(_MODULES.values())


def reader(model_type: str) -> Reader | None:
    """The reader of a model type; None where no family has one."""
    module = _MODULES.get(model_type) or _own(model_type) or _tabled(model_type)
    return cast(Reader, import_module(f"{__name__}.{module}").read) if module else None


def known_types() -> frozenset[str]:
    """Every model type that has a reader."""
    from pkgutil import iter_modules  # only needed to list all types

    return frozenset(_MODULES) | types_of(*_TABLES) | {row.name for row in iter_modules(__path__) if _own(row.name)}


def types_of(*modules: str) -> frozenset[str]:
    """The model types that the given modules read."""
    found = {model_type for model_type, module in _MODULES.items() if module in modules}
    found |= {module for module in modules if _own(module)}
    return frozenset(found.union(*(_types(module) for module in modules if module in _TABLES)))


def _own(model_type: str) -> str | None:
    """The module named after the type, which reads only that type; None where there is none."""
    if not model_type.isidentifier() or model_type.startswith("_") or model_type in (*_TABLES, *_SHARED):
        return None
    return model_type if find_spec(f"{__name__}.{model_type}") else None


def _tabled(model_type: str) -> str | None:
    """The module that lists the type in its `TYPES`; None where none does."""
    return next((module for module in _TABLES if model_type in _types(module)), None)


def _types(table: str) -> frozenset[str]:
    return cast("frozenset[str]", import_module(f"{__name__}.{table}").TYPES)
