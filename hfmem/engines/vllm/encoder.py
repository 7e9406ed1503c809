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

__all__ = ["Profile", "covers", "has_encoder", "media_refusal", "profile_of", "untold"]

_UNLIMITED: Final = (0, 9, 2)  # from here on, --limit-mm-per-prompt defaults to 999 of each kind, before to 1
_ENCODERS: Final = frozenset({"vision", "audio"})
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


def has_encoder(model: Model, settings: Settings) -> bool:
    """Whether a rank of the first stage, with `model` on it, runs an encoder: no limit leaves it out."""
    components = {group.component for group in model.parameters.groups} if model.parameters else set()
    return bool(components & _ENCODERS) and any(_limit(settings, kind) for kind in _kinds(model))


def untold(model: Model, scenario: Scenario) -> str:
    """Why the encoder's part of the profile run is not known, and what leaves it out; "" where it is known.

    Args:
        model: the part of the model on a rank of the first stage.
        scenario: the scenario.
    """
    settings = settings_of(scenario)
    kinds = [kind for kind in _kinds(model) if _limit(settings, kind)]
    known = kinds == ["image"] and profile_of(model, settings, scenario) is not None
    if not has_encoder(model, settings) or known:
        return ""
    reason = "vLLM's profile run has the largest input of the encoder, and what the encoder needs for it is not known"
    if model.architecture.source in ("encoder", "fixed"):  # the decoder does not run without
        return reason
    none = ", ".join(f'"{kind}": 0' for kind in _kinds(model))
    return f"{reason} (--limit-mm-per-prompt '{{{none}}}' leaves it out)"


def _kinds(model: Model) -> tuple[str, ...]:
    """What may be in a prompt beside text: of all kinds, where its processor is not known."""
    return model.largest.kinds if model.largest is not None else ("image", "video", "audio")


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
    """Whether nothing remains to be told of what a prompt's images need on a rank: no step has more of them than the
    profile run had, or that is told to be unknown.

    Args:
        model: the model.
        scenario: the scenario.
        first: whether it is a rank of the first pipeline stage, which alone runs the tower.
    """
    if not first or untold(model, scenario):
        return True
    only_images = bool(scenario.image_tokens) and scenario.media_tokens == scenario.image_tokens
    return only_images and profile_of(model, settings_of(scenario), scenario) is not None


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
