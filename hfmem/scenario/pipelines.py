"""Refuses what does not go with a diffusion pipeline, or only with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hfmem.engines.table import engines, find_engine
from hfmem.mapper.holdings import PIPELINES
from hfmem.options.option import declared
from hfmem.refusals.pipelines import PipelineClassError, PipelineError
from hfmem.scenario.asked import owners
from hfmem.scenario.options import Options

if TYPE_CHECKING:
    from hfmem.mapper.interpret import Model

__all__ = ["check_options", "check_pipeline"]


def check_options(options: Options, model: Model) -> None:
    """Refuse an option that only engines have which run no pipelines, where the model is one and its engine is chosen.

    Raises:
        PipelineError: with the option, and whose it is.
    """
    row = find_engine(options.runtime or "")
    if model.pipeline is None or row is None or PIPELINES not in row.formats:
        return
    theirs = owners()
    for option in declared(type(options)):
        having = theirs.get(option.name, ())
        names = {name for name, *_ in having}
        if having and row.name not in names and option.asked(options):
            raise PipelineError("option", option=option.flags[0], owners=tuple(title for _, title, _ in having))


def check_pipeline(options: Options, model: Model) -> None:
    """Refuse what the kind of the model does not go with.

    Raises:
        PipelineError: training or the textbook's formulas for a pipeline, an engine that does not run the model.
        PipelineClassError: videos or sound for one.
    """
    row = find_engine(options.runtime or "")
    mine = row is not None and PIPELINES in row.formats
    if model.pipeline is None:
        if mine and row is not None:
            raise PipelineError("model", runtime=row.title)
        return
    if options.train:
        raise PipelineError("training")
    if options.method != "exact":
        raise PipelineError("textbook")
    for flag, given in (("--video-frames", options.video_frames), ("--audio-seconds", options.audio_seconds)):
        if given is not None:
            raise PipelineClassError("media", option=flag)
    if row is not None and not mine:
        runs = next((other.name for other in engines() if PIPELINES in other.formats), "")
        raise PipelineError("engine", runtime=row.title, runs=runs)
