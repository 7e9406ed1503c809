"""How a model is split over several GPUs, and what `--gpus N` means without further options."""

from __future__ import annotations

from dataclasses import dataclass

from hfmem.refusals.splits import IndivisibleError, SizesError

__all__ = ["SINGLE", "Parallel", "plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """A parallel plan.

    Attributes:
        tp: tensor-parallel size: each layer is split over these ranks.
        pp: pipeline-parallel size: each stage holds some of the layers.
        dp: data-parallel size; the batch is per replica.
        ep: expert-parallel size; 1 where tensor parallelism splits each expert instead.
        cp: context-parallel size: each rank holds a part of the sequence (training).
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    cp: int = 1

    @property
    def gpus(self) -> int:
        """The total number of GPUs."""
        # ep is no factor: expert-parallel ranks are the tensor- and data-parallel ranks, regrouped
        return self.tp * self.pp * self.dp * self.cp

    def describe(self) -> str:
        """The sizes above one, as `tp 4, pp 2`."""
        parts = [f"{name} {size}" for name in ("tp", "pp", "dp", "ep", "cp") if (size := getattr(self, name)) > 1]
        return ", ".join(parts) or "one GPU"


SINGLE = Parallel()


def plan(  # noqa: PLR0913 - the numbers of the command line
    *,
    gpus: int | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    ep: int | None = None,
    cp: int | None = None,
    training: bool = False,
) -> Parallel:
    """The plan for the given sizes. GPUs that no size accounts for go to tensor parallelism for inference, and to data
    parallelism for training.

    Raises:
        SizesError, IndivisibleError: the sizes contradict each other.
    """
    given = {"tp": tp, "pp": pp, "dp": dp, "cp": cp}
    known = 1
    for size in given.values():
        known *= size or 1
    if gpus is not None and gpus != known:
        open_name = "dp" if training else "tp"
        if given[open_name] is not None or gpus % known:
            raise SizesError({name: size for name, size in given.items() if size is not None}, gpus)
        given[open_name] = gpus // known
    found = Parallel(tp=given["tp"] or 1, pp=given["pp"] or 1, dp=given["dp"] or 1, ep=ep or 1, cp=given["cp"] or 1)
    shared = found.gpus // found.pp
    if training and shared % found.ep:
        raise IndivisibleError("ep", found.ep, shared, "gpus")
    return found
