"""Options on parallelism, and on sharding in training."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from hfmem.options.option import Need, Option
from hfmem.options.panels import PARALLELISM
from hfmem.options.words import Offload

__all__ = ["ParallelOptions"]

_size = partial(Option, panel=PARALLELISM, methods=("exact",), least=1, most=100_000)
_training = partial(Option, panel=PARALLELISM, methods=("exact",), modes=("training",))
_training_size = partial(_training, least=1, most=100_000)


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class ParallelOptions:
    """The sizes of a parallel plan; None is 1, or the rest of `gpus`."""

    gpus: Annotated[
        int | None,
        _size(
            help="GPUs to use; tensor-parallel by default (training: data-parallel)",
            common=True,
            shown="1",
            keys=("num_processes",),
        ),
    ] = None
    tp: Annotated[int | None, _size(help="Tensor-parallel ranks", shown="1", keys=("tensor_parallel_size",))] = None
    pp: Annotated[int | None, _size(help="Pipeline stages", shown="1")] = None
    dp: Annotated[int | None, _size(help="Data-parallel replicas, each with --batch", shown="1")] = None
    ep: Annotated[int | None, _size(help="Expert-parallel ranks (tp × dp)", shown="1")] = None
    cp: Annotated[
        int | None, _training_size(help="Context-parallel ranks", shown="1", keys=("context_parallel_size",))
    ] = None
    sequence_parallel: Annotated[
        bool,
        _training(
            help="Sequence parallelism across tensor-parallel ranks",
            needs=(Need(sentence="needs --tp above 1", met=lambda asked: (asked.tp or 1) > 1),),
        ),
    ] = False
    virtual_stages: Annotated[
        int | None,
        _training_size(
            help="Model chunks per pipeline rank",
            shown="1",
            needs=(Need(sentence="needs --pp above 1", met=lambda asked: (asked.pp or 1) > 1),),
        ),
    ] = None
    zero: Annotated[
        int | None, _training(help="ZeRO stage; 1 is Megatron's distributed optimizer", shown="0", least=0, most=3)
    ] = None
    fsdp: Annotated[
        bool,
        _training(
            help="Shard with FSDP",
            needs=(Need(sentence="and --zero are mutually exclusive", met=lambda asked: not asked.zero),),
        ),
    ] = False
    shard: Annotated[
        int | None,
        _training_size(
            help="Ranks sharing one sharded copy",
            shown="all data-parallel ranks",
            needs=(Need(sentence="needs --fsdp or --zero", met=lambda asked: asked.fsdp or asked.zero),),
        ),
    ] = None
    offload: Annotated[
        Offload,
        Option(
            help="What waits in host memory: in training optimizer or parameters (ZeRO, FSDP); of a pipeline whole "
            "components (model) or single layers (group, sequential)",
            panel=PARALLELISM,
            metavar="WHAT",
            needs=(
                Need(
                    sentence="needs --train for optimizer and parameters",
                    met=lambda asked: asked.train or asked.offload not in ("optimizer", "parameters"),
                ),
                Need(
                    sentence="is optimizer or parameters in training",
                    met=lambda asked: not asked.train or asked.offload in ("none", "optimizer", "parameters"),
                ),
                Need(sentence="needs --zero or --fsdp", met=lambda asked: not asked.train or asked.zero or asked.fsdp),
                Need(
                    sentence="parameters needs --zero 3 or --fsdp",
                    met=lambda asked: asked.offload != "parameters" or asked.zero == 3 or asked.fsdp,
                ),
            ),
        ),
    ] = "none"
