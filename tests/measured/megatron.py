"""Models and scenarios of Megatron Core's functional tests, from the arguments beside their golden values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hfmem import Architecture, Layer, Model, Options, ParameterTable
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.blueprint import embedding, experts, head, linear, norm, router, weight
from hfmem.mapper.caches import KV
from hfmem.mapper.values import Dense, Experts

__all__ = ["scenario", "unfit"]

_NODE = 8  # GPUs of a DGX, on which the functional tests run; release tests run on more, and do not say how many
_GPT2_VOCABULARY = 50257  # the functional tests' GPT2BPETokenizer


def unfit(row: Mapping[str, Any]) -> str | None:
    """Why a row cannot be compared; None where it can."""
    if "_release" in row["id"]:
        return "the number of GPUs, over which the optimizer is shared, is not stated"
    if "hybrid" in row["model"]:
        return "layers of state-space models in Megatron have no formulas here"
    return None


def scenario(row: Mapping[str, Any], stack: str) -> tuple[Model, Options]:
    """The model of the arguments, and what is asked of it."""
    arguments: Mapping[str, str] = row["megatron_args"]
    tp, pp = (int(arguments.get(f"{name}-model-parallel-size", 1)) for name in ("tensor", "pipeline"))
    virtual = arguments.get("num-layers-per-virtual-pipeline-stage")
    dp = _NODE // (tp * pp)
    micro = int(arguments["micro-batch-size"])
    shared = "use-distributed-optimizer" in arguments
    options = Options(
        train="full",
        stack=stack,
        batch=micro,
        seq=int(arguments["seq-length"]),
        attention="eager" if arguments.get("attention-backend") == "unfused" else "flash",
        gradient_checkpointing=arguments.get("recompute-granularity") == "full",
        gradient_accumulation=int(arguments["global-batch-size"]) // (micro * dp),
        tp=tp,
        pp=pp,
        dp=dp,
        ep=int(arguments.get("expert-model-parallel-size", 1)),
        sequence_parallel="sequence-parallel" in arguments,
        zero=1 if shared else None,
        shard=dp // int(arguments.get("num-distributed-optimizer-instances", 1)) if shared else None,
        virtual_stages=int(arguments["num-layers"]) // pp // int(virtual) if virtual else None,
    )
    return _model(row["id"], arguments, tp), options


def _model(name: str, arguments: Mapping[str, str], tp: int) -> Model:
    depth, hidden = int(arguments["num-layers"]), int(arguments["hidden-size"])
    heads = int(arguments["num-attention-heads"])
    groups = int(arguments.get("num-query-groups", heads))
    size, units = hidden // heads, int(arguments.get("ffn-hidden-size", 4 * hidden))
    gated, count = "swiglu" in arguments, int(arguments.get("num-experts", 0))
    bias = "disable-bias-linear" not in arguments
    multiple = int(arguments.get("make-vocab-size-divisible-by", 128)) * tp
    vocabulary = -(-int(arguments.get("vocab-size", _GPT2_VOCABULARY)) // multiple) * multiple
    tied = "untie-embeddings-and-output-weights" not in arguments
    inner = 2 * units if gated else units
    weights = [
        *embedding(vocabulary, hidden),
        *linear("attention", "qkv", (heads + 2 * groups) * size, hidden, count=depth, bias=bias),
        *linear("attention", "proj", hidden, heads * size, count=depth, bias=bias),
        *norm(hidden, count=2 * depth + 1, bias=True),
        *head(vocabulary, hidden, tied=tied),
    ]
    if arguments.get("position-embedding-type", "learned_absolute") == "learned_absolute":
        weights += weight("other", "position_embeddings", int(arguments["max-position-embeddings"]), hidden)
    used = int(arguments.get("moe-router-topk", 1))
    if count:
        weights += router(count, hidden, count=depth)
        weights += experts("fc1", count, used, inner, hidden, layers=depth)
        weights += experts("fc2", count, used, hidden, units, layers=depth)
    else:
        weights += linear("mlp", "fc1", inner, hidden, count=depth, bias=bias)
        weights += linear("mlp", "fc2", hidden, units, count=depth, bias=bias)
    ffn = Experts(count=count, per_token=used, intermediate=units) if count else Dense(intermediate=units, gated=gated)
    layer = Layer(kind="full_attention", cache=KV(heads=groups, key_dim=size, value_dim=size), heads=heads, ffn=ffn)
    return Model(
        checkpoint=Checkpoint(ref=ModelRef(model_id=name), commit=None, source="local", provenance="", config=None),
        architecture=Architecture(
            model_type="megatron",
            hidden_size=hidden,
            vocab_size=vocabulary,
            tied_embeddings=tied,
            layers=(layer,) * depth,
            head="lm_head",
            dtype="bfloat16",
        ),
        parameters=ParameterTable(groups=tuple(weights)),
        certainty="derived",
        source="arguments of the run",
        stored_dtype=None,
        file_bytes=None,
        notes=(),
    )
