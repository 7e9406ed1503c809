"""What a person can ask for, and what of it makes no sense. Light to import: it is checked before anything else."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final, Literal

from hfmem.dtypes import find_dtype
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import plan
from hfmem.estimator.textbook import OPTIMIZERS, PRECISIONS
from hfmem.estimator.values import RUN_DTYPES, Attention, Method
from hfmem.estimator.weights.quantisers import QUANTISERS, find_quantiser

__all__ = [
    "Options",
    "Runtime",
    "canonical",
    "check",
]

Runtime = Literal["transformers", "vllm"]

_MOST: Final = 10**9  # tokens, or sequences: beyond it a figure means nothing
KV_DTYPES: Final = (*RUN_DTYPES, "float8_e4m3fn", "float8_e5m2", "int8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a person asks for; None leaves the choice to the model.

    Attributes:
        batch: sequences at once.
        seq: tokens a sequence, prompt and answer together (of the decoder, where there is an encoder beside it).
        source_seq: tokens of the encoder, or of images that a decoder attends to; None takes what the model fixes, else
            as many as `seq` up to the encoder's maximum, and no images.
        dtype: run dtype, or a quantisation to try (`int8`, `nf4`, …).
        kv_dtype: dtype of the cache.
        runtime: the software that runs the model.
        attention: the attention implementation.
        method: `exact`, or the founding article's formulas (`textbook`).
        train: training method; None for inference.
        optimizer: name of the optimizer.
        gpu: accelerators to hold the answer against: names, cloud instances, `auto`, or `cpu`; the first is the one
            that the estimate is made for.
        max_num_seqs, max_num_batched_tokens, gpu_memory_utilization, block_size, enforce_eager: vLLM's own options.
        vllm_version: the release whose rules hold.
        precision: name of the mix of number formats in training.
        stack: name of the training software.
        gradient_checkpointing: whether backward computes each layer anew from its input.
        selective_checkpointing: whether backward computes attention scores anew, and nothing else.
        gradient_accumulation: micro-batches to one optimizer step.
        fused_loss: whether the head and its loss are computed piece by piece.
        freeze: components that are not trained (`embedding`, `vision`, …).
        optimizer_rank: rank of low-rank optimizers.
        lora_rank, lora_targets, lora_dropout, lora_dtype, dora, modules_to_save: adapters, as PEFT's `LoraConfig`.
        double_quant: whether the scales of a 4-bit base are quantised too.
        zero, fsdp, shard, offload: how data-parallel ranks share weights, gradients and optimizer states.
        gpus, tp, pp, dp, cp, ep: how work is spread, as `hfmem.estimator.parallel` has it.
        sequence_parallel, virtual_stages: ways of tensor and pipeline parallelism.
        remarks: sentences for the report about where options are from.
        trace: whether to run the real class without weights, and to show its peak beside the estimate.
    """

    batch: int = 1
    seq: int | None = None
    source_seq: int | None = None
    dtype: str | None = None
    kv_dtype: str | None = None
    runtime: Runtime = "transformers"
    attention: Attention = "sdpa"
    method: Method = "exact"
    train: Literal["full", "lora", "qlora"] | None = None
    optimizer: str | None = None
    gpu: tuple[str, ...] = ()
    precision: str | None = None
    stack: str | None = None
    gradient_checkpointing: bool = False
    selective_checkpointing: bool = False
    gradient_accumulation: int | None = None
    fused_loss: bool = False
    freeze: tuple[str, ...] = ()
    optimizer_rank: int | None = None
    lora_rank: int | None = None
    lora_targets: tuple[str, ...] = ()
    lora_dropout: float | None = None
    lora_dtype: str | None = None
    dora: bool = False
    modules_to_save: tuple[str, ...] = ()
    double_quant: bool = False
    zero: int | None = None
    fsdp: bool = False
    shard: int | None = None
    offload: Literal["none", "optimizer", "parameters"] = "none"
    gpus: int | None = None
    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    ep: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    block_size: int | None = None
    enforce_eager: bool = False
    vllm_version: str | None = None
    cp: int | None = None
    sequence_parallel: bool = False
    virtual_stages: int | None = None
    remarks: tuple[str, ...] = ()
    trace: bool = False


def check(options: Options) -> None:
    """Refuse what no model could answer, before anything is fetched.

    Raises:
        InvalidScenarioError: a number out of range, an unknown dtype, options that do not go together.
    """
    _check_count("--batch", options.batch)
    _check_count("--seq", options.seq)
    _check_count("--source-seq", options.source_seq)
    if options.kv_dtype is not None and _known(options.kv_dtype, KV_DTYPES) is None:
        raise InvalidScenarioError("", f"--kv-dtype '{options.kv_dtype}' is not one of {', '.join(KV_DTYPES)}")
    if options.method == "textbook":
        _check_textbook(options)
    else:
        _check_exact(options)
    _check_spread(options)
    _check_engine(options)
    if options.trace:
        _check_trace(options)


_MOST_GPUS: Final = 100_000


def _check_spread(options: Options) -> None:
    """The parallel plan: counts in range that make the number of GPUs, and names that the table has."""
    sizes = {"--gpus": options.gpus, "--tp": options.tp, "--pp": options.pp, "--dp": options.dp, "--ep": options.ep}
    for name, size in sizes.items():
        if size is not None and not 1 <= size <= _MOST_GPUS:
            raise InvalidScenarioError("", f"{name} is {size}, expected 1 to {_MOST_GPUS:,}")
    given = any(size is not None for size in sizes.values())
    if given and options.method == "textbook":
        raise InvalidScenarioError("", "--method textbook knows one GPU")
    training = options.train is not None
    plan(gpus=options.gpus, tp=options.tp, pp=options.pp, dp=options.dp, ep=options.ep, training=training)
    if options.gpu:
        from hfmem.hardware.table import find  # reads the table; most runs name no accelerator

        for name in options.gpu:
            if name.lower() not in ("auto", "cpu"):
                find(name)


def _check_engine(options: Options) -> None:
    """The serving engine's options: in range, and only with the engine."""
    names = ("max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization", "block_size", "vllm_version")
    asked = [name for name in names if getattr(options, name) is not None]
    asked += ["enforce_eager"] if options.enforce_eager else []
    if asked and options.runtime != "vllm":
        shown = asked[0].replace("_", "-")
        raise InvalidScenarioError("", f"--{shown} is an option of vLLM: add --runtime vllm")
    if options.runtime == "vllm" and (options.method == "textbook" or options.train):
        raise InvalidScenarioError("", "--runtime vllm goes with neither --train nor --method textbook")
    _check_count("--max-num-seqs", options.max_num_seqs)
    _check_count("--max-num-batched-tokens", options.max_num_batched_tokens)
    _check_count("--block-size", options.block_size)
    share = options.gpu_memory_utilization
    if share is not None and not 0 < share <= 1:
        raise InvalidScenarioError("", f"--gpu-memory-utilization is {share:g}, expected more than 0 and at most 1")
    if options.vllm_version is not None:
        from hfmem.engines.vllm.rules import rules_of

        rules_of(options.vllm_version)


def _check_trace(options: Options) -> None:
    """What only one device with `transformers` on it can run, and only with PyTorch."""
    if options.method == "textbook" or options.runtime == "vllm":
        raise InvalidScenarioError("", "--trace runs the class of transformers: without --method textbook and vllm")
    if any((size or 1) > 1 for size in (options.gpus, options.tp, options.pp, options.dp, options.ep)):
        raise InvalidScenarioError("", "--trace runs on one GPU: without --gpus, --tp, --pp, --dp and --ep")
    if find_spec("torch") is None:
        raise InvalidScenarioError("", "--trace needs PyTorch, whose CPU build is enough: pip install 'hfmem[probe]'")


def _check_count(option: str, value: int | None) -> None:
    if value is not None and not 1 <= value <= _MOST:
        shown = str(value) if abs(value) <= _MOST else "enormous"
        raise InvalidScenarioError("", f"{option} is {shown}, expected 1 to {_MOST:,}")


def _check_exact(options: Options) -> None:
    from hfmem.scenario.training import check_training  # its tables are not needed to say what is wrong here

    check_training(options)
    if options.dtype is None or find_quantiser(options.dtype) or _known(options.dtype, RUN_DTYPES):
        return
    names = ", ".join((*RUN_DTYPES, *(row.name for row in QUANTISERS)))
    raise InvalidScenarioError("", f"--dtype '{options.dtype}' is not one of {names}")


def _check_textbook(options: Options) -> None:
    from hfmem.scenario.training import refuse_beside_textbook

    refuse_beside_textbook(options)
    if options.kv_dtype is not None:
        raise InvalidScenarioError("", "--kv-dtype does not go with --method textbook, which takes it from --dtype")
    if options.dtype is not None and _known(options.dtype, tuple(PRECISIONS)) is None:
        raise InvalidScenarioError("", f"--method textbook knows the dtypes {', '.join(PRECISIONS)}")
    if options.optimizer is not None and options.optimizer not in OPTIMIZERS:
        raise InvalidScenarioError("", f"--method textbook knows the optimizers {', '.join(OPTIMIZERS)}")
    if options.optimizer is not None and options.train is None:
        raise InvalidScenarioError("", "--optimizer needs --train full")


def _known(name: str, names: tuple[str, ...]) -> str | None:
    found = canonical(name)
    return found if found in names else None


def canonical(name: str) -> str:
    found = find_dtype(name)
    return found.name if found else name.lower()
