"""The parallel plan that options ask for."""

from __future__ import annotations

from hfmem.estimator.parallel import Parallel, plan
from hfmem.scenario.options import Options

__all__ = ["plan_of"]


def plan_of(options: Options) -> Parallel:
    """How the options spread the work.

    Raises:
        InvalidScenarioError: the sizes contradict each other.
    """
    return plan(
        gpus=options.gpus,
        tp=options.tp,
        pp=options.pp,
        dp=options.dp,
        ep=options.ep,
        cp=options.cp,
        training=options.train is not None,
    )
