"""From what a person asks of training to a `Training` with every choice made, and what of it makes no sense."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Final

from hfmem.dtypes import find_dtype
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.parallel import Parallel, plan
from hfmem.estimator.recipe.optimizers import OPTIMIZERS, find_optimizer
from hfmem.estimator.recipe.precisions import PRECISIONS, TRAINER, Precision, find_precision
from hfmem.estimator.recipe.stacks import DEFAULT_STACK, STACKS, Stack, find_stack
from hfmem.estimator.recipe.values import Checkpointing, Lora, Training
from hfmem.estimator.split.check import check_split
from hfmem.estimator.training.split import RULES
from hfmem.estimator.weights.base import stored_quantised
from hfmem.estimator.weights.quantisers import find_quantiser
from hfmem.mapper.lora import ALL_LINEAR, adapters, default_targets, saved_groups
from hfmem.mapper.values import COMPONENTS

if TYPE_CHECKING:
    from hfmem.mapper.interpret import Model
    from hfmem.scenario.options import Options

__all__ = ["check_training", "refuse_beside_textbook", "resolve_training", "usual_precision"]

_DEFAULT_RANK: Final = 8  # LoraConfig's own, peft 0.21
_ADAPTER_DTYPES: Final = {"auto": "float32", "float32": "float32", "fp32": "float32", "bfloat16": "bfloat16"}
_ONLY_TRAINING: Final = (
    "optimizer",
    "precision",
    "stack",
    "gradient_checkpointing",
    "selective_checkpointing",
    "gradient_accumulation",
    "fused_loss",
    "freeze",
    "zero",
    "fsdp",
    "shard",
    "offload",
    "virtual_stages",
    "sequence_parallel",
    "cp",
)
_ONLY_LORA: Final = ("lora_rank", "lora_targets", "lora_dropout", "lora_dtype", "dora", "modules_to_save")
_BY_DTYPE: Final = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
_SIZES: Final = ("gpus", "tp", "pp", "dp", "cp", "ep", "shard", "virtual_stages")


def check_training(options: Options) -> None:
    """Refuse what makes no sense for any model.

    Raises:
        InvalidScenarioError: an unknown name, a number out of range, options that do not go together.
    """
    if options.train is None:
        _refuse(options, (*_ONLY_TRAINING, *_ONLY_LORA, "double_quant", "optimizer_rank"), "needs --train")
        return
    if options.train == "full":
        _refuse(options, (*_ONLY_LORA, "double_quant"), "is for --train lora and qlora")
    elif options.train == "lora":
        _refuse(options, ("double_quant",), "is for --train qlora")
    if options.kv_dtype is not None:
        raise InvalidScenarioError("", "--kv-dtype is for inference: training keeps no cache")
    _check_names(options)
    _check_numbers(options)
    _check_sharding(options)
    _check_base(options)


def refuse_beside_textbook(options: Options) -> None:
    """Refuse options that the textbook's formulas have no place for."""
    if options.train not in (None, "full"):
        raise InvalidScenarioError("", "--method textbook knows --train full")
    names = (*_ONLY_TRAINING[1:], *_ONLY_LORA, "double_quant", "optimizer_rank", *_SIZES)
    _refuse(options, names, "does not go with --method textbook")


def resolve_training(options: Options, model: Model, own: str | None) -> tuple[Training, Parallel, list[str]]:
    """The training of a model whose floating dtype is `own`, the plan, and a sentence for each choice made here."""
    groups = model.parameters.groups if model.parameters else ()
    if options.train == "full" and any(group.parameters > group.elements for group in groups):
        raise InvalidScenarioError("", "the weights are packed by a quantiser and cannot be trained: give --train lora")
    stored = " and ".join(stored_quantised(model))
    if stored and options.train == "qlora":
        raise InvalidScenarioError("", f"the weights are quantised already ({stored}): give --train lora to adapt them")
    stack = find_stack(options.stack or DEFAULT_STACK) or STACKS[0]
    spread = plan_of(options)
    check_split(model.architecture, spread, RULES, pieces=options.virtual_stages or 1)
    precision, sentences = _precision(options, own, stack)
    optimizer = find_optimizer(options.optimizer or stack.optimizer) or OPTIMIZERS[0]
    if options.optimizer is None:
        whose = "what the stack uses" if optimizer.name != "adamw" else "torch.optim.AdamW as it comes"
        sentences.append(f"--optimizer {optimizer.name}: {whose}.")
    lora = None
    if options.train in ("lora", "qlora"):
        lora, chosen = _lora(options, model, precision)
        sentences += chosen
    if stored and options.train == "full":
        sentences.append(f"Weights stored in {stored} are trained in {precision.weights}.")
    sentences += _freezing(options, model)
    sharded = 3 if options.fsdp else options.zero or 0
    return (
        Training(
            method=options.train or "full",
            optimizer=optimizer,
            precision=precision,
            precision_asked=options.precision is not None,
            stack=stack,
            optimizer_rank=options.optimizer_rank or optimizer.rank,
            checkpointing=_checkpointing(options),
            accumulation=options.gradient_accumulation or 1,
            fused_loss=options.fused_loss,
            frozen=_tuple(options.freeze),
            lora=lora,
            double_quant=options.double_quant,
            zero=sharded,
            fsdp=options.fsdp,
            shard=options.shard or spread.dp * spread.cp,
            offload=options.offload,
            sequence_parallel=options.sequence_parallel,
            virtual_stages=options.virtual_stages or 1,
        ),
        spread,
        sentences,
    )


def _freezing(options: Options, model: Model) -> list[str]:
    """What there is to say of frozen parts.

    Raises:
        InvalidScenarioError: nothing else is left.
    """
    frozen = _tuple(options.freeze)
    if not frozen or model.parameters is None:
        return []
    if options.train != "full":
        return ["--freeze: the base of adapters is frozen anyway."]
    groups = [group for group in model.parameters.groups if group.loaded and group.parameters]
    if all(group.component in frozen for group in groups):
        raise InvalidScenarioError("", f"--freeze {','.join(frozen)} leaves nothing to train")
    missing = [name for name in frozen if all(group.component != name for group in groups)]
    return [f"--freeze: the model has no {' and no '.join(missing)}."] if missing else []


def plan_of(options: Options) -> Parallel:
    """How the options spread the work."""
    sizes = {"gpus": options.gpus, "tp": options.tp, "pp": options.pp, "dp": options.dp}
    return plan(**sizes, ep=options.ep, cp=options.cp, training=True)


def _checkpointing(options: Options) -> Checkpointing:
    if options.gradient_checkpointing:
        return "full"
    return "selective" if options.selective_checkpointing else "none"


def _refuse(options: Options, names: tuple[str, ...], why: str) -> None:
    defaults = {field.name: field.default for field in fields(options)}
    for name in names:
        if getattr(options, name) != defaults[name]:
            raise InvalidScenarioError("", f"--{name.replace('_', '-')} {why}")


def _check_names(options: Options) -> None:
    precision = None if options.precision in TRAINER else options.precision
    for option, value, find, rows in (
        ("--optimizer", options.optimizer, find_optimizer, OPTIMIZERS),
        ("--precision", precision, find_precision, PRECISIONS),
        ("--stack", options.stack, find_stack, STACKS),
    ):
        if value is not None and find(value) is None:
            raise InvalidScenarioError("", f"{option} '{value}' is not one of {', '.join(row.name for row in rows)}")
    for component in _tuple(options.freeze):
        if component not in COMPONENTS:
            raise InvalidScenarioError("", f"--freeze '{component}' is not one of {', '.join(COMPONENTS)}")
    if options.lora_dtype is not None and options.lora_dtype.lower() not in _ADAPTER_DTYPES:
        raise InvalidScenarioError(
            "", f"--lora-dtype '{options.lora_dtype}' is not one of {', '.join(_ADAPTER_DTYPES)}"
        )


def _check_numbers(options: Options) -> None:
    for name in (*_SIZES, "gradient_accumulation", "lora_rank", "optimizer_rank"):
        value = getattr(options, name)
        if value is not None and not 1 <= value <= 10**6:
            raise InvalidScenarioError("", f"--{name.replace('_', '-')} is {value}, expected 1 to 1,000,000")
    if options.lora_dropout is not None and not 0 <= options.lora_dropout < 1:
        raise InvalidScenarioError("", f"--lora-dropout is {options.lora_dropout}, expected 0 to below 1")
    optimizer = find_optimizer(options.optimizer or "")
    if options.optimizer_rank is not None and not (optimizer and optimizer.rank):
        names = ", ".join(row.name for row in OPTIMIZERS if row.rank)
        raise InvalidScenarioError("", f"--optimizer-rank is for --optimizer {names}")
    if options.zero is not None and options.zero not in range(4):
        raise InvalidScenarioError("", f"--zero is {options.zero}, expected 0, 1, 2 or 3")


def _check_sharding(options: Options) -> None:
    spread = plan_of(options)
    replicas = spread.dp * spread.cp
    if options.fsdp and options.zero:
        raise InvalidScenarioError("", "--fsdp and --zero are two ways to shard; give one")
    if options.shard is not None:
        if not (options.fsdp or options.zero):
            raise InvalidScenarioError("", "--shard needs --fsdp or --zero")
        if replicas % options.shard:
            raise InvalidScenarioError("", f"--shard {options.shard} does not divide the {replicas} replicas")
    if options.offload != "none" and not (options.zero or options.fsdp):
        raise InvalidScenarioError("", "--offload needs --zero or --fsdp")
    if options.offload == "parameters" and not (options.zero == 3 or options.fsdp):
        raise InvalidScenarioError("", "--offload parameters needs --zero 3 or --fsdp")
    if options.sequence_parallel and spread.tp == 1:
        raise InvalidScenarioError("", "--sequence-parallel needs --tp above 1")
    if options.virtual_stages is not None and spread.pp == 1:
        raise InvalidScenarioError("", "--virtual-stages needs --pp above 1")
    if options.gradient_checkpointing and options.selective_checkpointing:
        raise InvalidScenarioError("", "--gradient-checkpointing already covers --selective-checkpointing")


def _check_base(options: Options) -> None:
    quantiser = find_quantiser(options.dtype or "")
    floating = find_dtype(options.dtype or "")
    if quantiser is None:
        if floating is not None and floating.name not in _BY_DTYPE:
            raise InvalidScenarioError("", f"--dtype {options.dtype} is none to train in: give {', '.join(_BY_DTYPE)}")
        return
    if options.train == "full":
        raise InvalidScenarioError(
            "", f"--dtype {options.dtype} cannot be trained in full; --train qlora adds adapters"
        )
    if options.train == "qlora" and quantiser.name != "nf4":
        raise InvalidScenarioError("", f"--train qlora is NF4; for adapters on {quantiser.name} give --train lora")


def _precision(options: Options, own: str | None, stack: Stack) -> tuple[Precision, list[str]]:
    """The row that was asked for; else the stack's, else what ZeRO or the model's dtype mean."""
    if options.precision in TRAINER:
        half, whole = TRAINER[options.precision]
        name = whole if own == "float32" else half
        return find_precision(name) or PRECISIONS[0], [f"--precision {name}: autocast on {own or '16-bit'} weights."]
    if options.precision is not None:
        row = find_precision(options.precision) or PRECISIONS[0]
        quantised = find_quantiser(options.dtype or "")
        if options.dtype is not None and not quantised and own != row.weights:
            raise InvalidScenarioError(
                "", f"--dtype {options.dtype} contradicts --precision {row.name} ({row.weights})"
            )
        return row, []
    row, why = usual_precision(own, stack, deepspeed=bool(options.zero) and options.train == "full")
    return row, [f"--precision {row.name}: {why}."]


def usual_precision(own: str | None, stack: Stack, *, deepspeed: bool) -> tuple[Precision, str]:
    """The precision where a person names none, and why: of weights of the dtype `own`; `deepspeed` where ZeRO shares
    what full training holds."""
    name = stack.precision or _BY_DTYPE.get(own or "", "bf16")
    why = f"as the weights are {own}" if own in _BY_DTYPE else f"the dtype of the weights is {own or 'not known'}"
    why = "what the stack does" if stack.precision else why
    if deepspeed and not stack.precision and name in ("bf16", "fp16"):
        name, why = f"{name}-master", "DeepSpeed keeps float32 weights beside them"
    return find_precision(name) or PRECISIONS[0], why


def _tuple(names: Iterable[str] | str) -> tuple[str, ...]:
    """Names as they are, or as a list with commas, which callers from Python may give too."""
    return tuple(name.strip() for name in (names.split(",") if isinstance(names, str) else names) if name.strip())


def _unnamed(options: Options, model: Model, targets: tuple[str, ...]) -> list[str]:
    """A sentence for names that no module has; PEFT passes them over in silence.

    Raises:
        InvalidScenarioError: no module has any of the targets' names.
    """
    table = model.parameters
    if table is None:
        return []
    if not adapters(model, targets):
        if targets == (ALL_LINEAR,):
            raise InvalidScenarioError("", "the model has no linear modules that adapters could go on")
        raise InvalidScenarioError("", f"no module is named {' or '.join(targets)}: see `--lora-targets all-linear`")
    named = {"--lora-targets": [name for name in targets if not adapters(model, (name,))]}
    saved = _tuple(options.modules_to_save)
    named["--modules-to-save"] = [name for name in saved if not saved_groups(table, (name,))]
    return [f"{option}: no module is named {' or '.join(names)}." for option, names in named.items() if names]


def _lora(options: Options, model: Model, precision: Precision) -> tuple[Lora, list[str]]:
    sentences = []
    targets = _tuple(options.lora_targets)
    if not targets:
        model_type = model.architecture.model_type or ""
        found = default_targets(model_type)
        if found is None:
            raise InvalidScenarioError(
                "", f"PEFT has no default targets for '{model_type}': give --lora-targets, names or all-linear"
            )
        targets = found
        sentences.append(f"--lora-targets {','.join(targets)}: PEFT's default for {model_type}.")
    sentences += _unnamed(options, model, targets)
    if options.lora_rank is None:
        sentences.append(f"--lora-rank {_DEFAULT_RANK}: PEFT's default.")
    asked = _ADAPTER_DTYPES[(options.lora_dtype or "auto").lower()]
    return (
        Lora(
            rank=options.lora_rank or _DEFAULT_RANK,
            targets=targets,
            dropout=options.lora_dropout or 0.0,
            dtype="float32" if precision.weights == "float32" else asked,
            dora=options.dora,
            saved_modules=_tuple(options.modules_to_save),
        ),
        sentences,
    )
