"""How a model is spread over several GPUs: the numbers, and what a bare `--gpus N` means."""

from __future__ import annotations

from dataclasses import dataclass

from hfmem.refusals.splits import IndivisibleError, SizesError

__all__ = ["SINGLE", "Parallel", "plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """A split.

    Attributes:
        tp: tensor-parallel ranks, which share each layer.
        pp: pipeline stages, which share the layers.
        dp: data-parallel replicas; the batch is that of one of them.
        ep: ranks that share the experts; 1 where every tensor-parallel group splits each expert instead.
        cp: context-parallel ranks, which share the tokens of a sequence (training).
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    cp: int = 1

    @property
    def gpus(self) -> int:
        """GPUs altogether."""
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
    """The split that was asked for. What `gpus` leaves open is tensor parallelism for inference, and data parallelism
    for training.

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
