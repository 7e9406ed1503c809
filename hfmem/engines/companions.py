"""Options that servers have in common: the model that makes drafts."""

from dataclasses import dataclass
from typing import Annotated

from hfmem.options.option import Need, Option

__all__ = ["PANEL", "DraftOptions"]

PANEL = "vLLM and SGLang"
_TRAINED = ("eagle", "eagle3", "draft_model")
_NAMED = ("EAGLE", "EAGLE3", "STANDALONE")


def _drafts(asked: object) -> bool:
    """Whether another model makes the drafts: of whichever of these engines runs."""
    algorithm = getattr(asked, "speculative_algorithm", None)
    return getattr(asked, "spec_method", None) in _TRAINED or algorithm in _NAMED


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class DraftOptions:
    """The draft; none by default."""

    spec_model: Annotated[
        str | None,
        Option(
            help="The draft of speculative decoding: a Hub id or path",
            panel=PANEL,
            modes=("inference",),
            names=("--spec-model", "--speculative-draft-model-path"),
            metavar="MODEL",
            needs=(
                Need(
                    sentence="needs --spec-method eagle, eagle3 or draft_model, or SGLang's --speculative-algorithm "
                    "EAGLE, EAGLE3 or STANDALONE",
                    met=_drafts,
                ),
            ),
        ),
    ] = None
