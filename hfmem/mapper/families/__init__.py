"""One module a family of architectures; each has `read(facts) -> Blueprint`.

To add an architecture: add its type to a relative's table (`DIALECTS` of llama.py for dense decoders, of mixtral.py for
mixtures of experts), or write its module; name it in `_MODULES`. The oracle tests then hold it against the real class.
Modules are imported one at a time, when a model of their family is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Final, cast

from hfmem.mapper.blueprint import Blueprint
from hfmem.mapper.facts import Facts

__all__ = ["KNOWN_TYPES", "reader"]

Reader = Callable[[Facts], Blueprint]

# model type -> module in this package
_MODULES: Final[dict[str, str]] = {
    **dict.fromkeys(
        (
            "apertus",
            "arcee",
            "cohere",
            "cohere2",
            "cwm",
            "ernie4_5",
            "exaone4",
            "gemma",
            "gemma2",
            "glm",
            "glm4",
            "granite",
            "helium",
            "hunyuan_v1_dense",
            "hyperclovax",
            "jais2",
            "llama",
            "ministral",
            "ministral3",
            "mistral",
            "nemotron",
            "olmo",
            "olmo2",
            "olmo3",
            "persimmon",
            "phi",
            "phi3",
            "qwen2",
            "qwen3",
            "seed_oss",
            "smollm3",
            "stablelm",
            "starcoder2",
            "vaultgemma",
        ),
        "llama",
    ),
    **dict.fromkeys(
        (
            "dots1",
            "ernie4_5_moe",
            "flex_olmo",
            "glm4_moe",
            "gpt_oss",
            "granitemoe",
            "granitemoeshared",
            "minimax_m2",
            "mixtral",
            "olmoe",
            "phimoe",
            "qwen2_moe",
            "qwen3_moe",
        ),
        "mixtral",
    ),
    **dict.fromkeys(("codegen", "gpt2", "gpt_bigcode", "gpt_neo", "gptj"), "gpt2"),
    **dict.fromkeys(("bloom", "falcon", "gpt_neox", "mpt"), "gpt_neox"),
    "opt": "opt",
    **dict.fromkeys(("deepseek_v2", "deepseek_v3"), "deepseek"),
    **dict.fromkeys(
        ("albert", "bert", "camembert", "distilbert", "electra", "mpnet", "roberta", "xlm-roberta"), "bert"
    ),
    "deberta-v2": "deberta",
    **dict.fromkeys(("modernbert", "nomic_bert"), "modernbert"),
    **dict.fromkeys(("gemma3", "gemma3_text"), "gemma3"),
}

KNOWN_TYPES: Final = frozenset(_MODULES)


def reader(model_type: str) -> Reader | None:
    """The reader of a model type; None where no family knows it."""
    module = _MODULES.get(model_type)
    return None if module is None else cast(Reader, import_module(f"{__name__}.{module}").read)
