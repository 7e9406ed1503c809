"""Of options whose value cannot be, or that do not go with what else was asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from hfmem.dtypes import BLOCK_DTYPES
from hfmem.errors import InvalidTokenError, ModelNotFoundError, cut
from hfmem.options.reading import not_one_of
from hfmem.refusals.options import (
    ForeignOptionError,
    IncompatibleOptionsError,
    MisplacedOptionError,
    MissingValueError,
    ModelNameError,
    NoFlashError,
    NoTrainingError,
    OnlyForError,
    OptionRefusedError,
    ProfileGpuError,
    PromptError,
    QuantisationError,
    Range,
    ReleaseError,
    SeveralModelsError,
    UnknownGpuError,
    UnknownWordError,
    UntracedError,
    WrongValueError,
)

__all__ = ["WORDS"]

_ENORMOUS: Final = 10**9  # numbers beyond it are not repeated
_KINDS: Final[dict[type, str]] = {
    int: "a whole number",
    float: "a number",
    str: "a word",
    bool: "true or false",
    tuple: "a list",
}

_EXPERIMENTAL: Final = ": it is one of TRL's experimental trainers, which are not covered"
_UNCOVERED: Final = {
    "ppo": ": TRL 1.16 has dropped PPOTrainer; GRPO and RLOO are its online trainers",
    **dict.fromkeys(("cpo", "gkd", "gold", "online-dpo", "online_dpo", "orpo", "tpo", "distillation"), _EXPERIMENTAL),
}
"""What else TRL has or had (trl 1.16.0, `experimental`)."""


def _wrong_value(error: WrongValueError) -> str:
    if isinstance(error.expected, Range):
        return f"{error.option} is {_number(error.value)}, expected {_range(error.expected)}"
    # a number that is no whole one, although it may be as large
    whole = isinstance(error.value, float) and abs(error.value) <= _ENORMOUS and error.expected is not tuple
    seen = str(error.value) if whole else _number(error.value)
    return f"{error.option} is {seen}, expected {_KINDS.get(error.expected, error.expected.__name__)}"


def _number(value: object) -> str:
    """A value in a sentence; numbers with thousands of digits are not printed."""
    if not isinstance(value, (int, float)):
        return str(value)
    return "enormous" if abs(value) > _ENORMOUS else f"{value:g}" if isinstance(value, float) else str(value)


def _range(rules: Range) -> str:
    """Numbers in words."""
    if rules.above is not None:
        most = f" and at most {rules.most:,g}" if rules.most else ""
        return f"more than {rules.above:,g}{most}"
    if rules.below is not None:
        return f"{rules.least:,g} to below {rules.below:,g}"
    return f"{rules.least:,} to {rules.most:,}" if rules.most is not None else f"at least {rules.least:,}"


def _missing_value(error: MissingValueError) -> str:
    return f"{error.option} {'is empty: give a value or omit it' if error.empty else 'cannot be None'}"


_LLAMA_TYPES: Final = ("q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1", "f32", "f16")


def _unknown_word(error: UnknownWordError) -> str:
    word = error.word.upper()
    if error.option == "--dtype" and any(word.startswith(each.name.upper()) for each in BLOCK_DTYPES):
        return (
            f"--dtype '{cut(error.word)}' is a quantisation of GGUF files: name the repository that has them, as in "
            f"OWNER/NAME-GGUF:{cut(word)}, or the file"
        )
    if error.option == "--kv-dtype" and (kind := error.word.lower()) in _LLAMA_TYPES:
        return (
            f"--kv-dtype '{kind}' is a type of llama.cpp's cache, which has options of its own: -ctk {kind} -ctv {kind}"
        )
    option = "--method" if error.under == "textbook" else "--train"
    under = f", which {option} {error.under} supports" if error.under else ""
    without = _UNCOVERED.get(error.word.lower(), "") if error.option == "--train" else ""
    return f"{error.option} {not_one_of(error.word, error.known)}{under}{without}"


def _option_refused(error: OptionRefusedError) -> str:
    return f"{error.option} {error.declared}"


def _foreign_option(error: ForeignOptionError) -> str:
    titles = " and ".join(title for _, title in error.owners)
    meant = f" (did you mean {error.meant}?)" if error.meant else ""
    return f"{error.option} is an option of {titles}: add --runtime {error.owners[0][0]}{meant}"


def _misplaced_option(error: MisplacedOptionError) -> str:
    return f"{error.option} {'needs --train' if error.mode == 'inference' else 'is for inference'}"


def _incompatible_options(error: IncompatibleOptionsError) -> str:
    return f"{' '.join(error.option)} cannot be used with {' '.join(error.other)}"


def _no_training(error: NoTrainingError) -> str:
    return (
        f"--runtime {error.runtime} is for inference: what {error.trainer} takes to train is not modelled; "
        "leave out --runtime to train with transformers"
    )


def _only_for(error: OnlyForError) -> str:
    joint = " and " if len(error.words) == 2 else ", "
    return f"{error.option} is for {error.other} {joint.join(error.words)}"


def _prompt(error: PromptError) -> str:
    return f"--prompt {error.prompt:,} exceeds --seq {error.seq:,}, which covers prompt and output"


def _no_flash(error: NoFlashError) -> str:
    return f"--attention flash: {error.name} of {error.source} does not support flash attention; it runs {error.runs}"


def _release(error: ReleaseError) -> str:
    if error.lacks:
        what = {"group": "--offload group", "quantised": "a quantised --dtype"}[error.lacks]
        return f"{error.option} {error.version} does not have {what}: {error.oldest} is the first that does"
    if error.oldest:
        return f"{error.option} {error.version} is older than {error.oldest}, the oldest supported"
    return f"{error.option} '{error.version}' is not a release such as {error.example}"


def _unknown_gpu(error: UnknownGpuError) -> str:
    near = ";"
    if error.sold:
        *sizes, last = map(str, error.sold)
        near = f": it is sold with {' and '.join(filter(None, (', '.join(sizes), last)))} GB;"
    elif error.alike:
        near = f"; did you mean {' or '.join(error.alike)}?"
    known = "--list-gpus shows all, and a size such as 24GB is a budget"
    return f"--gpu '{cut(error.name)}' is not in the table{near} {known}"


def _profile_gpu(error: ProfileGpuError) -> str:
    whose = f"the Hub profile of {error.user}" if error.user else "your Hub profile"
    page = "https://huggingface.co/settings/hardware"
    owned = ", ".join(f"{name} with {memory} GB" for name, memory in error.owned)
    why = {
        "offline": f"is the hardware saved on {whose}, which cannot be read offline",
        "login": f"is the hardware saved on {whose}, and nobody is logged in: run `hf auth login`, or set HF_TOKEN",
        "nothing": f"finds no public hardware on {whose}: add it, and make it visible, at {page}",
        "unknown": f"finds nothing on {whose} that the table has ({owned})",
        "answer": f"is the hardware saved on {whose}, which cannot be read: {_cause(error)}",
        "unread": f"is the hardware saved on {whose}, which hfmem.estimate, hfmem.compare and the command line read",
        "count": f"takes no count: it is the hardware saved on {whose}",
    }[error.why]
    return f"--gpu {error.name} {why}. Otherwise name it, as in --gpu 'RTX 4090', or use --gpu auto for this machine"


def _cause(error: ProfileGpuError) -> str:
    """What the Hub answered, in a few words."""
    if error.cause is None:
        return "no answer"
    if isinstance(error.cause, (InvalidTokenError, ModelNotFoundError)):
        return "the Hub does not know the token"
    return error.cause.reason or error.cause.code().replace("_", " ")


def _several_models(error: SeveralModelsError) -> str:
    *others, last = error.options
    return f"{', '.join(others)} and {last} are for one model, not for several that run as one"


def _untraced(error: UntracedError) -> str:
    if not error.optimizers:
        return "--trace runs on one GPU: name one only"
    *others, last = error.optimizers
    optimizers = f"{', '.join(others)} or {last}"
    return f"--trace runs full training in transformers with {optimizers}, with or without --gradient-checkpointing"


def _quantisation(error: QuantisationError) -> str:
    return f"--quant {cut(error.word)} contradicts {cut(error.named)}: use one of them"


def _model_name(error: ModelNameError) -> str:
    if error.several:
        return f"the models are {error.given}, expected Hub ids or paths, or a list of such"
    return f"a model is {error.given}, expected a Hub id or a path"


WORDS: Final[dict[type, Callable[[Any], str]]] = {
    ForeignOptionError: _foreign_option,
    IncompatibleOptionsError: _incompatible_options,
    MisplacedOptionError: _misplaced_option,
    MissingValueError: _missing_value,
    ModelNameError: _model_name,
    NoFlashError: _no_flash,
    NoTrainingError: _no_training,
    OnlyForError: _only_for,
    OptionRefusedError: _option_refused,
    ProfileGpuError: _profile_gpu,
    PromptError: _prompt,
    QuantisationError: _quantisation,
    ReleaseError: _release,
    SeveralModelsError: _several_models,
    UnknownGpuError: _unknown_gpu,
    UnknownWordError: _unknown_word,
    UntracedError: _untraced,
    WrongValueError: _wrong_value,
}
"""The words of each kind."""
