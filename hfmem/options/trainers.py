"""Options of TRL's trainers, and on how rows of different lengths are put into a batch; names are TRL's own."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from hfmem.options.option import Need, Option
from hfmem.options.panels import TRAINERS
from hfmem.options.reading import tokens
from hfmem.options.words import OBJECTIVES, PackingStrategy, TrainMethod, VllmMode

__all__ = ["TrainerOptions"]

_ONLINE = ("grpo", "rloo")
_PAIRED = ("dpo", "kto")
_MOST = 10**9
_trainer = partial(Option, panel=TRAINERS, modes=("training",), methods=("exact",))
_trl = partial(_trainer, train=OBJECTIVES)
_online = partial(_trainer, train=_ONLINE)
_vllm = partial(
    _online, needs=(Need(sentence="needs --vllm-mode colocate", met=lambda asked: asked.vllm_mode == "colocate"),)
)


def _alone(name: str, *others: str) -> Need:
    """Rows are put into a batch in one way."""
    flags = " and ".join(f"--{other.replace('_', '-')}" for other in others)
    return Need(
        sentence=f"excludes {flags}: rows are put into a batch in one way",
        met=lambda asked: not any(getattr(asked, other) for other in others) or not getattr(asked, name),
    )


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class TrainerOptions:
    """What TRL's trainers are asked; None leaves the choice to the trainer."""

    train_method: Annotated[
        TrainMethod | None,
        _trl(help="What a trainer of TRL trains: all weights, or adapters", common=True, shown="full"),
    ] = None
    padding: Annotated[
        bool,
        _trainer(
            help="Pad rows to the longest one, which needs an attention mask",
            needs=(_alone("padding", "packing", "padding_free"),),
        ),
    ] = False
    packing: Annotated[
        bool,
        _trainer(
            help="Pack short rows into full ones",
            needs=(
                _alone("packing", "padding", "padding_free"),
                Need(
                    sentence="is for --train sft, full, lora and qlora: the other trainers of TRL pad",
                    met=lambda asked: asked.train not in OBJECTIVES or asked.train == "sft",
                ),
            ),
            keys=("packing", "sample_packing"),
        ),
    ] = False
    padding_free: Annotated[
        bool,
        _trainer(
            help="Join the rows of a batch into one without padding",
            needs=(
                _alone("padding_free", "padding", "packing"),
                Need(
                    sentence="is for --train sft, full, lora and qlora: TRL 1.16 refuses it for DPO, "
                    "and the other trainers of TRL pad",
                    met=lambda asked: asked.train not in OBJECTIVES or asked.train == "sft",
                ),
            ),
            keys=("padding_free",),
        ),
    ] = False
    packing_strategy: Annotated[
        PackingStrategy | None,
        _trainer(
            help="How TRL packs: whole rows (bfd, bfd_split) or one stream cut into rows (wrapped)",
            shown="bfd",
            train=("sft",),
            needs=(Need(sentence="needs --packing", met=lambda asked: asked.packing),),
            keys=("packing_strategy",),
        ),
    ] = None
    loss_type: Annotated[
        str | None,
        _trl(help="Loss of the trainer: nll, sigmoid, kto, apo_zero_unpaired, dapo, …", metavar="NAME", shown="TRL's"),
    ] = None
    label_smoothing: Annotated[
        float | None,
        _trl(
            help="Label smoothing; above 0, SFT makes whole logits, and runs a second forward pass",
            shown="0",
            least=0,
            most=1,
            keys=("label_smoothing_factor", "label_smoothing"),
        ),
    ] = None
    beta: Annotated[
        float | None,
        _trainer(
            help="Weight of the KL term; GRPO and RLOO keep a reference model only if it is not 0",
            shown="DPO and KTO 0.1, GRPO 0, RLOO 0.05",
            train=(*_PAIRED, *_ONLINE),
            least=0,
            keys=("beta",),
        ),
    ] = None
    precompute_ref_log_probs: Annotated[
        bool,
        _trainer(
            help="Run the reference model before training, and keep none",
            train=_PAIRED,
            keys=("precompute_ref_log_probs",),
        ),
    ] = False
    num_generations: Annotated[
        int | None,
        _online(
            help="Completions per prompt",
            shown="GRPO 8, RLOO 2",
            least=2,
            most=10**6,
            keys=("num_generations",),
        ),
    ] = None
    max_completion_length: Annotated[
        int | None,
        _trainer(
            help="Tokens of --seq that are the completion; the rest is the prompt",
            shown="DPO, KTO all of --seq; GRPO, RLOO TRL's default",
            train=(*_PAIRED, *_ONLINE, "sft"),
            parse=tokens,
            least=1,
            most=_MOST,
            keys=("max_completion_length",),
        ),
    ] = None
    vllm_mode: Annotated[
        VllmMode | None,
        _online(help="Generate with vLLM: on the same GPUs, or on a server's", shown="without vLLM"),
    ] = None
    vllm_gpu_memory_utilization: Annotated[
        float | None,
        _vllm(
            help="vLLM's share of the GPU's memory",
            shown="0.3",
            above=0,
            most=1,
            keys=("vllm_gpu_memory_utilization",),
        ),
    ] = None
    vllm_enable_sleep_mode: Annotated[
        bool,
        _vllm(help="vLLM frees its memory while the policy is trained", keys=("vllm_enable_sleep_mode",)),
    ] = False
