"""Repositories whose files differ from those of their family, each with its evidence, and excluded repositories."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from hfmem.fetcher.values import Names
from hfmem.probe.catalog.tables import Table, renamed, stored_dtype

__all__ = ["ALIASES", "COMMITS", "LEFT_OUT", "adapt", "finish", "names"]

Step = Callable[[Table, dict[str, Any]], Table]

# Other ids of the same repository, which the Hub redirects (307) to it or back.
ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "FacebookAI/roberta-base": ("roberta-base",),
    "albert/albert-base-v1": ("albert-base-v1",),
    "google-bert/bert-base-uncased": ("bert-base-uncased",),
    "google-bert/bert-large-uncased": ("bert-large-uncased",),
    "google-t5/t5-base": ("t5-base",),
    "google-t5/t5-large": ("t5-large",),
    "google-t5/t5-small": ("t5-small",),
    "meta-llama/Llama-3.1-70B-Instruct": ("meta-llama/Meta-Llama-3.1-70B-Instruct",),
    "meta-llama/Llama-3.1-8B-Instruct": ("meta-llama/Meta-Llama-3.1-8B-Instruct",),
    "meta-llama/Meta-Llama-3.1-8B": ("meta-llama/Llama-3.1-8B",),
    "openai-community/gpt2": ("gpt2",),
    "openai-community/gpt2-medium": ("gpt2-medium",),
    "openai-community/openai-gpt": ("openai-gpt",),
}

# Commits that the published totals belong to.
COMMITS: Final[dict[str, str]] = {
    "allenai/OLMo-2-1124-7B": "7df9a82518afdecae4e8c026b27adccc8c1f0032",
    "meta-llama/Llama-2-13b-hf": "5c31dfb671ce7cfe2d7bb7c04375e44c55e815b1",
    "meta-llama/Llama-2-70b-hf": "3aba440b59558f995867ba6e1f58f21d0336b5bb",
    "meta-llama/Llama-2-7b-hf": "01c7f73d771dfac7d292323805ebc428287df4f9",
    "openai-community/gpt2": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
    "Qwen/Qwen3.6-35B-A3B": "995ad96eacd98c81ed38be0c5b274b04031597b0",
    "zai-org/GLM-5.3": "aca966e4e02791568aa6a4ced368624b3d897f42",
}

# Repositories whose tensors cannot be derived from the available config.
LEFT_OUT: Final[dict[str, str]] = {
    "MiniMaxAI/MiniMax-M3": "no class for its text-only config, and seven prediction modules of unknown layout",
    "Qwen/Qwen2.5-Omni-7B-AWQ": "the config does not say which of the talker's layers are quantised",
    "Qwen/Qwen3-ASR-1.7B": "the config (thinker_config) is of the repository's own code and of another size's values",
    "RWKV/rwkv-5-world-3b": "own code; no published total to check a written-out table against",
    "TheBloke/Genz-70b-GPTQ": "the available config (3 bit) is of a branch, not of main",
    "XiaomiMiMo/MiMo-7B-Base": "own code with a prediction layer; no published total to check against",
    "XiaomiMiMo/MiMo-V2-Flash": "which layers are FP8 is in a list that the available config lacks",
    "Zyphra/Zamba2-7B": "the available config lacks the number of Mamba heads",
    "allenai/OLMo-2-0325-32B-Instruct": "the available config is the base model's (float32), listed under its id",
    "allenai/OLMo-2-1124-7B-Instruct": "the available config is the base model's (float32), listed under its id",
    "bigcode/starcoder2-15b": "the available config has the 7B's sizes, listed under its id",
    "deepseek-ai/Janus-1.3B": "the config names towers by class only; their sizes are in the repository's code",
    "liuhaotian/llava-v1.5-7b": "own code; the vision tower is not in its files in every revision",
    "meta-llama/Llama-3.1-405B-Instruct-FP8": "the list of 16-bit modules is incomplete in the available config",
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8": "how the experts were unfused for FP8 is not in the config",
    "microsoft/Phi-3-vision-128k-instruct": "no published total; Phi-3.5-vision's table was checked against its own",
    "microsoft/deberta-v3-base": "the available config is a fine-tuned model's",
    "microsoft/git-base": "the available config was cut down for a test (one vision layer)",
    "microsoft/phi-1_5": "the available config is of an older revision with other names (phi-msft)",
    "mistralai/Ministral-3-3B-Instruct-2512": "the available config lacks the FP8 quantization of the files",
    "nvidia/Gemma-4-26B-A4B-NVFP4": "how the fused experts are stored is not in the config",
    "nvidia/Kimi-K2.5-NVFP4": "no published total to check against",
    "nvidia/Kimi-K2.6-NVFP4": "no published total to check against",
    "nvidia/Llama-3_3-Nemotron-Super-49B-v1": "own code with a block configuration a layer; no published total",
    "nvidia/LocateAnything-3B": "own code, quantised by a third party",
    "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4": "hf_quant_config.json does not list the layers kept in 16 bits",
    "openbmb/MiniCPM-MoE-8x2B": "own code; no published total to check against",
    "pypi/tokenlearn-static-model": "not a repository of the Hub",
    "sgl-project/DeepSeek-V4-Flash-FP8": "own layout; no published total to check against",
    "stepfun-ai/Step-3.7-Flash-FP8": "the available config is flattened and lacks the vision tower",
    "tiiuae/Falcon-Perception": "own code; exact variant not verified",
}

# Types whose repositories predate safetensors, or have a head of another kind: it is unknown whether the files contain
# buffers (`attn.bias`), or use another prefix.
_CLASS_NAMES: Final = frozenset({"gpt_bigcode", "gptj", "opt", "mpt", "falcon", "albert", "openai-gpt"})


def names(model: str, config: dict[str, Any]) -> Names:
    """`class` if it is unknown whether the files use the names of the class, otherwise `derived`."""
    if model in _STEPS:
        return "derived"
    unsure = config.get("model_type") in _CLASS_NAMES or config["architectures"][0] in ("BertModel", "XLMRobertaModel")
    return "class" if unsure else "derived"


def adapt(model: str, contents: Table, config: dict[str, Any]) -> Table:
    """The table of a repository, from that of its family."""
    for step in _STEPS.get(model, ()):
        contents = step(contents, config)
    return contents


def finish(model: str, contents: Table) -> Table:
    """The table with dtypes that differ from the config's: published ones, and float32 for router biases."""
    dtype = _DTYPES.get(model)
    result: Table = {}
    for name, (kind, shape) in contents.items():
        if name.endswith("e_score_correction_bias") or (model in _WIDE_NORMS and _NORM.search(name)):
            result[name] = ("F32", shape)
        else:
            result[name] = (dtype if dtype and kind == "F32" else kind, shape)
    return result


def _inv_freq(contents: Table, config: dict[str, Any]) -> Table:
    """`rotary_emb.inv_freq` in each layer, a buffer that transformers saved until 4.31.

    It is float16 like the rest: Llama-2-7b-chat-hf's safetensors have 13,476,835,328 bytes, 2 × (6,738,415,616 + 32 ×
    64).
    """
    half = config["hidden_size"] // config["num_attention_heads"] // 2
    layers = (f"model.layers.{layer}.self_attn.rotary_emb.inv_freq" for layer in range(config["num_hidden_layers"]))
    return contents | {name: (stored_dtype(config), (half,)) for name in layers}


def _gpt2(contents: Table, config: dict[str, Any]) -> Table:
    """Files of 2019: no `transformer.` prefix, and the causal mask of each layer as a buffer `attn.bias`."""
    positions = config["n_positions"]
    masks: Table = {f"h.{layer}.attn.bias": ("F32", (1, 1, positions, positions)) for layer in range(config["n_layer"])}
    return renamed(contents, lambda name: name.removeprefix("transformer.")) | masks


def _without_transformer(contents: Table, _: dict[str, Any]) -> Table:
    """Saved from the base model: no `transformer.` prefix (the repository's model.safetensors.index.json)."""
    return renamed(contents, lambda name: name.removeprefix("transformer."))


def _redpajama(contents: Table, config: dict[str, Any]) -> Table:
    """GPT-NeoX's buffers of early 2023: mask (bool), the mask's value and `inv_freq`.

    The names are in pytorch_model.bin.index.json; the dtypes follow from its `total_size`, 13,731,385,408.0, which
    counts a bool as an eighth of a byte: 16,781,376 bytes above the weights are 32 × (2048²/8 + 2 + 64 × 2).
    """
    size, half = config["max_position_embeddings"], config["hidden_size"] // config["num_attention_heads"] // 2
    result = dict(contents)
    for layer in range(config["num_hidden_layers"]):
        prefix = f"gpt_neox.layers.{layer}.attention."
        result[prefix + "bias"] = ("BOOL", (1, 1, size, size))
        result[prefix + "masked_bias"] = ("F16", ())
        result[prefix + "rotary_emb.inv_freq"] = ("F16", (half,))
    return result


def _stored_head(contents: Table, config: dict[str, Any]) -> Table:
    """A head stored although it is tied to the embedding: the published total is higher by vocabulary × hidden size."""
    return contents | {"lm_head.weight": (stored_dtype(config), (config["vocab_size"], config["hidden_size"]))}


def _position_ids(contents: Table, config: dict[str, Any]) -> Table:
    """`embeddings.position_ids`, a buffer that transformers saved until 4.30: the published total is higher by 512."""
    prefix = "roberta." if config["model_type"] == "roberta" else ""
    return contents | {f"{prefix}embeddings.position_ids": ("I64", (1, config["max_position_embeddings"]))}


def _bert_pretraining(contents: Table, config: dict[str, Any]) -> Table:
    """Google's BERT: both pretraining heads and the pooler, norms with TensorFlow's names (`LayerNorm.gamma`)."""
    hidden, dtype = config["hidden_size"], stored_dtype(config)
    heads: Table = {
        "bert.pooler.dense.weight": (dtype, (hidden, hidden)),
        "bert.pooler.dense.bias": (dtype, (hidden,)),
        "cls.seq_relationship.weight": (dtype, (2, hidden)),
        "cls.seq_relationship.bias": (dtype, (2,)),
    }
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def rename(name: str) -> str:
        for new, former in old.items():
            name = name.replace(new, former)
        return name

    return renamed(contents, rename) | heads


_STEPS: Final[dict[str, tuple[Step, ...]]] = {
    "BAAI/bge-large-en-v1.5": (_position_ids,),
    "FacebookAI/roberta-base": (_position_ids,),
    "NousResearch/Llama-2-7b-hf": (_inv_freq,),
    "Qwen/Qwen3-0.6B": (_stored_head,),
    "Qwen/Qwen3-1.7B": (_stored_head,),
    "bigscience/bloom": (_without_transformer,),
    "google-bert/bert-base-uncased": (_bert_pretraining,),
    "google-bert/bert-large-uncased": (_bert_pretraining,),
    "meta-llama/Llama-2-13b-hf": (_inv_freq,),
    "meta-llama/Llama-2-70b-hf": (_inv_freq,),
    "meta-llama/Llama-2-7b-hf": (_inv_freq,),
    "openai-community/gpt2": (_gpt2,),
    "openai-community/gpt2-medium": (_gpt2,),
    "sentence-transformers/all-MiniLM-L6-v2": (_position_ids,),
    "togethercomputer/RedPajama-INCITE-7B-Base": (_redpajama,),
}

# Stored dtypes of models whose config has none: as published, or from the size of the files.
_DTYPES: Final[dict[str, str]] = {
    "Qwen/Qwen-72B-Chat": "BF16",  # modeling_qwen.py loads in bf16 if none of bf16, fp16, fp32 is set
    "Qwen/Qwen-7B": "BF16",  # the same
    "Qwen/Qwen2-Audio-7B-Instruct": "BF16",  # index total_size 16,794,189,824 is two bytes per element
    "Qwen/Qwen2.5-72B-Instruct": "BF16",  # as all of Qwen2.5; its registry entry has no dtype
    "bigscience/bloom": "BF16",  # safetensors.parameters of the Hub; index total_size 352,494,542,848
    "mistralai/Mistral-Nemo-Instruct-2407": "BF16",  # as the other models of Mistral; its registry entry has no dtype
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2": "BF16",  # as Nemotron 3 Nano; its registry entry has no dtype
    "openai/gpt-oss-20b": "BF16",  # safetensors.parameters of the Hub
}

# Models whose published dtypes count the norms as float32.
_WIDE_NORMS: Final = frozenset({"deepseek-ai/DeepSeek-V3.2"})
_NORM: Final = re.compile(r"norm\.(weight|bias)$")
