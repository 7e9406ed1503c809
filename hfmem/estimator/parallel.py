"""How work is spread over several GPUs: one value, for running and for training, and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hfmem.errors import InvalidScenarioError

__all__ = ["Parallel", "resolve_parallel"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """The plan, every size a number of ranks.

    Attributes:
        tp: tensor parallel: ranks that share each matrix.
        pp: pipeline parallel: ranks that share the layers.
        dp: data parallel: ranks that each take a batch of their own.
        cp: context parallel: ranks that share the tokens of a sequence.
        ep: expert parallel: ranks that share the experts; they are among those of `tp`, `cp` and `dp`.
        gpus: all of them: tp × pp × dp × cp.
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    cp: int = 1
    ep: int = 1
    gpus: int = 1

    @property
    def several(self) -> bool:
        """Whether there is more than one GPU."""
        return self.gpus > 1

    def describe(self) -> str:
        """The sizes that say something, in words: "tp 2 × dp 4"."""
        sizes = {"tp": self.tp, "pp": self.pp, "dp": self.dp, "cp": self.cp, "ep": self.ep}
        return " × ".join(f"{name} {size}" for name, size in sizes.items() if size > 1) or "one GPU"


def resolve_parallel(  # noqa: PLR0913 - one argument an option
    mode: Literal["inference", "training"],
    *,
    gpus: int | None = None,
    tp: int | None = None,
    pp: int | None = None,
    dp: int | None = None,
    cp: int | None = None,
    ep: int | None = None,
) -> Parallel:
    """The plan that the options describe. A bare `--gpus N` is tensor parallel for running, data parallel for
    training; beside other sizes it gives the one that is left open.

    Raises:
        InvalidScenarioError: sizes that contradict each other.
    """
    known = (tp or 1) * (pp or 1) * (dp or 1) * (cp or 1)
    open_ = "tp" if mode == "inference" else "dp"
    if gpus is None:
        gpus = known
    elif gpus % known:
        raise InvalidScenarioError("", f"--gpus {gpus} is not a multiple of the other sizes, whose product is {known}")
    elif gpus != known:
        given = {"tp": tp, "dp": dp}[open_]
        if given is not None:
            raise InvalidScenarioError("", f"--gpus {gpus} contradicts the other sizes, whose product is {known}")
        if open_ == "tp":
            tp = gpus // known
        else:
            dp = gpus // known
    shared = gpus // (pp or 1)
    if shared % (ep or 1):
        raise InvalidScenarioError("", f"--ep {ep} does not divide the {shared} GPUs of a pipeline stage")
    return Parallel(tp=tp or 1, pp=pp or 1, dp=dp or 1, cp=cp or 1, ep=ep or 1, gpus=gpus)
