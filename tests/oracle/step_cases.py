"""The training steps whose peaks are recorded, and what we say of them. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final, Literal

from hfmem import Options
from hfmem.api import inspect, report_on
from tests.measured.training import from_config
from tests.oracle.peak_cases import RANK, TARGETS, WORKSPACES, shortened

__all__ = ["ENCODED", "MODELS", "OPTIMIZERS", "Case", "cases", "config_of", "ours", "targets"]

OPTIMIZERS: Final = ("adamw", "sgd")
MODELS: Final = (
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Meta-Llama-3-8B",
    "HuggingFaceTB/SmolLM-1.7B",
    "mistralai/Mistral-7B-v0.1",
    "Alibaba-NLP/gte-Qwen2-7B-instruct",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-0.6B",
    "google/gemma-2b-it",
    "google/gemma-2-2b",
    "google/gemma-3-1b-it",
    "microsoft/phi-2",
    "microsoft/Phi-3.5-mini-instruct",
    "microsoft/Phi-4-mini-instruct",
    "bigcode/starcoder2-7b",
    "bigcode/gpt_bigcode-santacoder",
    "facebook/opt-6.7b",
    "allenai/OLMo-2-1124-7B",
    "togethercomputer/RedPajama-INCITE-7B-Base",
    "tiiuae/falcon-40b",
    "CohereForAI/aya-23-8B",
    "EleutherAI/gpt-j-6b",
    "bigscience/bloom",
    "mosaicml/mpt-7b",
    "stabilityai/stablelm-3b-4e1t",
    "HuggingFaceTB/SmolLM3-3B",
    "LGAI-EXAONE/EXAONE-4.0-32B",
    "openai-community/gpt2",
    "openai-community/openai-gpt",
    "mistralai/Mixtral-8x7B-v0.1",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen1.5-MoE-A2.7B",
    "ibm-granite/granite-3.1-1b-a400m-instruct",
    "zai-org/GLM-4.5-Air",
    "openai/gpt-oss-20b",
    "deepseek-ai/DeepSeek-V2-Lite",
    "deepseek-ai/DeepSeek-V3",
    "LiquidAI/LFM2-1.2B",
    "nvidia/NVIDIA-Nemotron-Nano-9B-v2",
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
    "Qwen/Qwen3-Next-80B-A3B-Instruct",
    "tiiuae/falcon-mamba-7b",
    "google-bert/bert-base-uncased",
    "FacebookAI/roberta-base",
    "zai-org/GLM-5",
)
ENCODED: Final[dict[str, dict[str, Any]]] = {
    "facebook/bart-large-cnn": {},
    "facebook/mbart-large-50-many-to-many-mmt": {},
    "google-t5/t5-base": {},
    "google/t5-v1_1-xxl": {},
    "openai/whisper-large-v3": {},
    "Helsinki-NLP/opus-mt-en-de": {
        "model_type": "marian",
        "architectures": ["MarianMTModel"],
        "d_model": 512,
        "encoder_ffn_dim": 2048,
        "decoder_ffn_dim": 2048,
        "encoder_attention_heads": 8,
        "decoder_attention_heads": 8,
        "vocab_size": 58101,
        "max_position_embeddings": 512,
        "activation_function": "swish",
        "pad_token_id": 58100,
        "decoder_start_token_id": 58100,
        "scale_embedding": True,
        "is_encoder_decoder": True,
    },
    "google/pegasus-xsum": {
        "model_type": "pegasus",
        "architectures": ["PegasusForConditionalGeneration"],
        "d_model": 1024,
        "encoder_ffn_dim": 4096,
        "decoder_ffn_dim": 4096,
        "encoder_attention_heads": 16,
        "decoder_attention_heads": 16,
        "vocab_size": 96103,
        "max_position_embeddings": 512,
        "activation_function": "relu",
        "scale_embedding": True,
        "is_encoder_decoder": True,
    },
}
"""Encoder-decoders: those of the catalog by name, others by the sizes of their config.json."""

_SHALLOW: Final = {"encoder_layers": 3, "decoder_layers": 2, "num_layers": 3, "num_decoder_layers": 2}
_DEEPEST: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One step, whatever its optimizer; `source` is what the encoder of an encoder-decoder reads, 0 without one."""

    method: Literal["full", "lora", "dora"]
    attention: Literal["sdpa", "eager"]
    checkpointing: bool
    batch: int
    seq: int
    source: int = 0
    precision: Literal["bf16", "autocast-bf16"] = "bf16"

    def __str__(self) -> str:
        kept = "checkpointing" if self.checkpointing else "saved"
        heard = f" from {self.source}" if self.source else ""
        mixed = " autocast-bf16" if self.precision == "autocast-bf16" else ""
        return f"{self.method} {self.attention} {kept} {self.batch}x{self.seq}{heard}{mixed}"


def targets(config: Mapping[str, Any], case: Case) -> tuple[str, ...]:
    """The modules with adapters: all linear ones, or those that PEFT 0.21 takes. It has no DoRA for experts whose
    weights are one parameter (`ParamWrapper`, tuners/lora/layer.py), and refuses the matrix that a fused kernel of
    Mamba reads (tuners/tuners_utils.py)."""
    if config["model_type"] == "nemotron_h":
        return (*_ATTENTION, "in_proj")
    if case.method != "dora" or config["model_type"] not in _STACKED:
        return (TARGETS,)
    if "kv_lora_rank" not in config:
        return _ATTENTION
    queries = ("q_a_proj", "q_b_proj") if config.get("q_lora_rank") else ("q_proj",)
    return (*queries, "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")


_ATTENTION: Final = ("q_proj", "k_proj", "v_proj", "o_proj")
_STACKED: Final = ("mixtral", "qwen3_moe", "glm4_moe", "deepseek_v2", "deepseek_v3", "qwen3_next", "glm_moe_dsa")
"""Types whose linear experts PEFT adapts as parameters (utils/transformers_weight_conversion.py)."""


def config_of(name: str) -> dict[str, Any]:
    """A model's configuration with its first layers, two or as many as show each of its kinds once."""
    if name in ENCODED:
        return _encoded(name)
    layers = inspect(name, offline=True).architecture.layers or ()
    kinds = set(layers[:_DEEPEST])
    depth = next(count for count in range(1, len(layers) + 1) if set(layers[:count]) >= kinds)
    config = shortened(name, max(2, depth))
    if "n_layers" in config:
        config["n_layers"] = max(2, depth)
    pattern = config.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        config["hybrid_override_pattern"] = pattern[: max(2, depth)]
    return {key: value for key, value in config.items() if key not in ("auto_map", "quantization_config")}


def _encoded(name: str) -> dict[str, Any]:
    """The configuration of an encoder-decoder with three layers of its encoder and two of its decoder."""
    config = ENCODED[name] or dict(inspect(name, offline=True).checkpoint.config or {})
    config = {key: value for key, value in config.items() if key != "num_hidden_layers"}
    depths = ("num_layers", "num_decoder_layers") if "d_kv" in config else ("encoder_layers", "decoder_layers")
    own = {"tie_word_embeddings": True, "decoder_start_token_id": 0, **config}
    return own | {key: _SHALLOW[key] for key in depths}


def _spoken(config: Mapping[str, Any]) -> Iterator[Case]:
    """Every case of an encoder-decoder: a short text of a long one, and the other way round; of sound of one length."""
    longest = config.get("max_position_embeddings") or config.get("n_positions") or 4096
    shapes = [(8, 128, min(longest, 1024)), (4, min(longest, 512), 128)]
    if sound := config.get("max_source_positions"):
        shapes = [(4, 64, sound), (8, 448, sound)]
    methods: tuple[Literal["full", "lora"], ...] = ("full", "lora")
    attentions: tuple[Literal["sdpa", "eager"], ...] = ("sdpa", "eager")
    for (batch, seq, source), method, attention, kept in product(shapes, methods, attentions, (False, True)):
        yield Case(method=method, attention=attention, checkpointing=kept, batch=batch, seq=seq, source=source)
    (batch, seq, source), *_ = shapes
    for kept in (False, True):
        mixed = Case(method="full", attention="sdpa", checkpointing=kept, batch=batch, seq=seq, source=source)
        yield replace(mixed, precision="autocast-bf16")


def cases(config: Mapping[str, Any]) -> Iterator[Case]:
    """Every case of a model: no longer than it has positions for."""
    if config.get("is_encoder_decoder"):
        yield from _spoken(config)
        return
    longest = config.get("max_position_embeddings") or config.get("n_positions") or 4096
    longest -= 2 if config["model_type"] == "roberta" else 0  # whose first position is 2
    shapes = ((1, min(512, longest)), (2, min(2048, longest)))
    methods: tuple[Literal["full", "lora", "dora"], ...] = ("full", "lora", "dora")
    attentions: tuple[Literal["sdpa", "eager"], ...] = ("sdpa", "eager")
    for (batch, seq), method, attention, kept in product(shapes, methods, attentions, (False, True)):
        yield Case(method=method, attention=attention, checkpointing=kept, batch=batch, seq=seq)
    batch, seq = 2, min(512, longest)
    for kept in (False, True):
        mixed = Case(method="full", attention="sdpa", checkpointing=kept, batch=batch, seq=seq)
        yield replace(mixed, precision="autocast-bf16")


def ours(config: Mapping[str, Any], case: Case, optimizer: str) -> int:
    """Allocated bytes at our peak."""
    adapted: dict[str, Any] = {}
    if case.method != "full":
        adapted = {"lora_rank": RANK, "lora_targets": targets(config, case), "lora_dtype": "bfloat16"}
        adapted["dora"] = case.method == "dora"
    options = Options(
        train="full" if case.method == "full" else "lora",
        batch=case.batch,
        seq=case.seq,
        source_seq=case.source or None,
        gradient_checkpointing=case.checkpointing,
        attention=case.attention,
        precision=case.precision,
        optimizer=optimizer,
        **adapted,
    )
    facts = report_on(from_config("model", config), options).estimate.training
    assert facts is not None
    return facts.allocated - WORKSPACES
