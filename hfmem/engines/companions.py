"""Options that servers have in common: the model that makes drafts, and adapters."""

from dataclasses import dataclass
from typing import Annotated

from hfmem.options.option import Need, Option

__all__ = ["RANKS", "DraftOptions", "LoraOptions"]

_PANEL = "vLLM and SGLang"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters that vLLM accepts (config/lora.py, MaxLoRARanks)."""
_MOST = 65_536
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
            panel=_PANEL,
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


@dataclass(frozen=True, kw_only=True, init=False, repr=False, eq=False)
class LoraOptions:
    """Slots for adapters; off by default."""

    enable_lora: Annotated[bool, Option(help="Reserve slots for LoRA adapters", panel=_PANEL, modes=("inference",))] = (
        False
    )
    max_lora_rank: Annotated[
        int | None,
        Option(
            help="Largest rank of an adapter",
            panel=_PANEL,
            modes=("inference",),
            shown="16; of SGLang required",
            least=1,
            most=_MOST,
            needs=(
                Need(sentence="needs --enable-lora", met=lambda asked: asked.enable_lora),
                Need(
                    sentence=f"is none that vLLM accepts: {', '.join(map(str, RANKS[:-1]))} or {RANKS[-1]}",
                    met=lambda asked: asked.runtime == "sglang" or asked.max_lora_rank in RANKS,
                ),
            ),
        ),
    ] = None
