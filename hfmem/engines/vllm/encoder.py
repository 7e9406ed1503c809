"""The encoder in vLLM's profile run: as many of the largest images as a step's budget holds run through the tower; then
the language model runs, while their pixels and features stay.

Sources: vLLM 0.10.2, 0.19.0 and 0.33.0, `v1/worker/gpu_model_runner.py::profile_run`,
`multimodal/encoder_budget.py::MultiModalBudget` (0.10: `v1/worker/utils.py`),
`v1/core/encoder_cache_manager.py::compute_mm_encoder_budget`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.estimator.activations.towers import encoding
from hfmem.estimator.values import Scenario, Term
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import LargestInput
from hfmem.unknown import Unknown

__all__ = ["Profile", "allows_media", "covers", "media_refusal", "profile_of"]

_UNLIMITED: Final = (0, 9, 2)  # from here on, --limit-mm-per-prompt defaults to 999 of each kind, before to 1
_SOURCE: Final = "vLLM 0.19.0, v1/worker/gpu_model_runner.py::profile_run; "


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The encoder's part of the profile run.

    Attributes:
        peak: while the tower runs, in bytes above the weights.
        kept: what stays while the language model runs.
    """

    peak: Term
    kept: Term


def allows_media(model: Model, settings: Settings) -> bool:
    """Whether any kind of input beside text may be in a prompt."""
    largest = model.largest
    return largest is None or any(_limit(settings, kind) for kind in largest.kinds)


def media_refusal(scenario: Scenario) -> str:
    """Why requests are refused, for what they have beside text; "" where they are not."""
    settings = settings_of(scenario)
    asked = {"image": scenario.images, "video": bool(scenario.video_tokens), "audio": bool(scenario.audio_tokens)}
    for kind, count in asked.items():
        limit = _limit(settings, kind)
        if count > limit:
            return f"--limit-mm-per-prompt allows {limit} of '{kind}' in a prompt, and {count} are asked for"
    return ""


def covers(model: Model, scenario: Scenario, *, first: bool) -> bool:
    """Whether the profile run holds what a prompt's images need on a rank: no step has more of them than it had.

    Args:
        model: the model.
        scenario: the scenario.
        first: whether it is a rank of the first pipeline stage, which alone runs the tower.
    """
    if not scenario.image_tokens or scenario.media_tokens > scenario.image_tokens:
        return False
    return not first or profile_of(model, settings_of(scenario), scenario) is not None


def profile_of(model: Model, settings: Settings, scenario: Scenario) -> Profile | None:
    """The encoder's part of the profile run; None where the tower is not measured, or does not run."""
    largest, tower, dtype = model.largest, model.tower, find_dtype(scenario.compute_dtype or "")
    if largest is None or tower is None or dtype is None:
        return None
    item = largest.image
    # towers for images of any size turn them by rotary positions, for which vLLM has kernels of its own
    if item is None or item.patches or not _limit(settings, "image"):
        return None
    count = _count(item, settings, scenario.seq)
    pieces = count * item.pieces
    run = replace(
        scenario,
        batch=1,
        images=count,
        pieces=pieces,
        patches=0,
        image_tokens=count * item.features,
        video_tokens=0,
        audio_tokens=0,
        attention="sdpa",
    )
    found = encoding(tower, run)
    if isinstance(found, Unknown):
        return None
    # vLLM's processors hand pixels over in the model's dtype, those of transformers in float32
    less = pieces * tower.patches * tower.sizes["pixels"] * (4 - dtype.nbytes(1))
    plural = "" if count == 1 else "s"
    what = f"{count} image{plural} of {item.features:,} tokens"
    by = f", by {largest.source}" if largest.default else ""
    return Profile(
        peak=_term("encoder's profile", found.peak - less, f"{what}{by}: {found.how}; - {less:,} B", found.source),
        kept=_term("encoder outputs", found.kept - less, f"pixels and features of {what}{by}", found.source),
    )


def _term(name: str, nbytes: int, how: str, source: str) -> Term:
    # measured on the class of transformers; vLLM's own class has kernels of its own
    return Term(name=name, group="activations", nbytes=nbytes, how=how, source=_SOURCE + source, certainty="typical")


def _limit(settings: Settings, kind: str) -> int:
    """Items of a kind that a prompt may have."""
    usual = 999 if settings.version >= _UNLIMITED else 1
    return dict(settings.extras.mm_limits).get(kind, usual)


def _count(item: LargestInput, settings: Settings, length: int) -> int:
    """Images in the profile run: as many as the budget holds, and as all requests of a step may have."""
    tokens = max(1, item.features)
    budget = max(settings.max_num_batched_tokens, tokens)
    per_prompt = max(1, min(_limit(settings, "image"), length // tokens))
    return max(1, min(budget // tokens, settings.max_num_seqs * per_prompt))
