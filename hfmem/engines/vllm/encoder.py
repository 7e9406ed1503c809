"""The encoder in vLLM's profile run: as many of the largest images as a step's budget holds run through the tower; then
the language model runs, while their pixels and features stay.

Sources: vLLM 0.10.2, 0.19.0 and 0.33.0, `v1/worker/gpu_model_runner.py::profile_run`,
`multimodal/encoder_budget.py::MultiModalBudget` (0.10: `v1/worker/utils.py`),
`v1/core/encoder_cache_manager.py::compute_mm_encoder_budget`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.engines.vllm.towers import CAST, Forward, forward_of
from hfmem.estimator.activations.towers import PIXEL, encoding
from hfmem.estimator.values import Scenario, Term, total_of
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Largest, Tower
from hfmem.unknown import Unknown

__all__ = ["Profile", "covers", "has_encoder", "media_refusal", "profile_of", "untold"]

_UNLIMITED: Final = (0, 9, 2)  # from here on, --limit-mm-per-prompt defaults to 999 of each kind, else to 1
_WHOLE_ITEMS: Final = (0, 10, 0)  # before, the last item in the profile run need not fit into the budget
_FRAMES_OF_PROMPT: Final = (0, 11, 0)
_FRAMES: Final = 14  # of a video in the profile run, at most; before 0.11 some more
_MORE_FRAMES: Final = 16
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
    if not has_encoder(model, settings) or profile_of(model, settings, scenario) is not None:
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
    return not scenario.audio_tokens and profile_of(model, settings_of(scenario), scenario) is not None


def profile_of(model: Model, settings: Settings, scenario: Scenario) -> Profile | None:
    """The encoder's part of the profile run; None where the tower or its largest input is not known, or does not run.

    Args:
        model: the part of the model on a rank of the first stage.
        settings: the server's.
        scenario: the scenario.
    """
    tower, largest, items = model.tower, model.largest, _items(model, settings, scenario)
    if tower is None or largest is None or not items:
        return None
    if settings.first_engine:
        return _together(tower, largest, items, scenario)
    item = max(items, key=lambda one: one.features)
    return _profile(tower, largest, replace(item, count=_count(item, settings, scenario.seq)), scenario)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """Images or videos of the largest size: the features of each by which they are counted, the pieces that the tower
    runs for each, with their patches (0 for the tower's own), and the features that come out."""

    kind: str
    features: int
    pieces: int
    patches: int
    made: int
    count: int = 1


def _items(model: Model, settings: Settings, scenario: Scenario) -> list[_Item]:
    """The largest input of each kind; none where one of them is not known."""
    largest, found = model.largest, list[_Item]()
    if largest is None:
        return found
    for kind in largest.kinds:
        if not _limit(settings, kind):
            continue
        item = _image(largest) if kind == "image" else _video(largest, settings, scenario) if kind == "video" else None
        if item is None:
            return []
        found.append(item)
    return found


def _image(largest: Largest) -> _Item | None:
    image = largest.image
    if image is None or (image.patches and largest.default):  # how large images may be is in the processor's files
        return None
    return _Item(kind="image", features=image.features, pieces=image.pieces, patches=image.patches, made=image.features)


def _video(largest: Largest, settings: Settings, scenario: Scenario) -> _Item | None:
    """As many frames as the longest prompt holds (`get_num_frames_with_most_features`); before 0.11, those that run are
    as many as a step holds."""
    video = largest.video
    if video is None or largest.default:
        return None
    late = settings.version >= _FRAMES_OF_PROMPT
    most = (_FRAMES if late else _MORE_FRAMES) // video.frames
    image = 0 if late or largest.image is None else largest.image.features * _limit(settings, "image")

    def steps(length: int) -> int:
        return 1 if video.whole else max(1, min(most, length // video.step.features))

    counted = steps(scenario.seq - image)
    made = counted if late else steps(settings.max_num_batched_tokens - image)
    features, patches = video.step.features, video.step.patches
    return _Item(kind="video", features=counted * features, pieces=1, patches=made * patches, made=made * features)


def _profile(tower: Tower, largest: Largest, item: _Item, scenario: Scenario) -> Profile | None:
    """The run of so many items."""
    dtype = find_dtype(scenario.compute_dtype or "")
    if dtype is None:
        return None
    settings, width = settings_of(scenario), dtype.nbytes(1)
    pieces = item.count * item.pieces
    run = replace(
        scenario,
        batch=1,
        images=item.count,
        pieces=pieces,
        patches=item.patches,
        image_tokens=item.count * item.made,
        video_tokens=0,
        audio_tokens=0,
        attention="sdpa",
    )
    found = encoding(tower, run)
    if isinstance(found, Unknown):
        return None
    # vLLM's processors hand pixels over in the model's dtype, those of transformers in float32
    less = 0 if settings.version < CAST else pieces * (item.patches or tower.patches)
    less *= tower.sizes["pixels"] * (PIXEL - width)
    plural = "" if item.count == 1 else "s"
    what = f"{item.count} {item.kind}{plural} of {item.made:,} tokens"
    what += f", by {largest.source}" if largest.default else ""
    kept = _term("encoder outputs", found.kept - less, f"pixels and features of {what}", found.source)
    own = forward_of(tower.name, settings.release)
    if own is None or not item.patches:
        how = f"{what}: {found.how}; - {less:,} B"
        peak = _term("encoder's profile", found.peak - less, how, found.source)
    else:
        peak = _of_vllm(own, tower, run, what, width)
    return Profile(peak=peak, kept=kept)


def _of_vllm(own: Forward, tower: Tower, run: Scenario, what: str, width: int) -> Term:
    """The run of vLLM's own class."""
    tp, wider = run.parallel.tp, max(1, width // 2)
    sizes = {
        **tower.sizes,
        "s": run.pieces * run.patches,
        "heads_dim": tower.sizes["hidden"] // tp,
        "inner": tower.sizes["intermediate"] // tp,
    }
    highest = own.highest(sizes)
    named = ", ".join(f"{name} {sizes[name]:,}" for name in sorted(highest.names, key=lambda one: (one != "s", one)))
    how = f"{what}: {highest.describe()} bytes with {named}"
    how += f"; × {wider} for {run.compute_dtype}" if wider > 1 else ""
    return Term(
        name="encoder's profile",
        group="activations",
        nbytes=highest.at(sizes) * wider,
        how=how,
        source=_SOURCE + own.source,
        certainty="derived",
    )


def _together(tower: Tower, largest: Largest, items: Sequence[_Item], scenario: Scenario) -> Profile | None:
    """The first engine, whose prompts have as many of each kind as they may, one kind after another
    (0.7.3, `worker/model_runner.py::_dummy_run`)."""
    settings = settings_of(scenario)
    each = sum(item.features * _limit(settings, item.kind) for item in items)
    prompts = max(1, min(settings.max_num_seqs, settings.max_num_batched_tokens // max(1, each)))
    found = [
        _profile(tower, largest, replace(item, count=prompts * _limit(settings, item.kind)), scenario) for item in items
    ]
    known = [one for one in found if one is not None]
    if len(known) < len(items):
        return None
    highest = max(known, key=lambda one: one.peak.nbytes)
    kept = [one.kept for one in known]
    beside = total_of(kept) - highest.kept.nbytes
    peak, features = highest.peak, "; ".join(term.how for term in kept)
    how = peak.how + (f"; + {beside:,} B of another kind" if beside else "")
    return Profile(
        peak=replace(peak, nbytes=peak.nbytes + beside, how=how),
        kept=replace(highest.kept, nbytes=total_of(kept), how=features),
    )


def _term(name: str, nbytes: int, how: str, source: str) -> Term:
    # measured on the class of transformers; vLLM's own class has kernels of its own
    return Term(name=name, group="activations", nbytes=nbytes, how=how, source=_SOURCE + source, certainty="typical")


def _limit(settings: Settings, kind: str) -> int:
    """Items of a kind that a prompt may have."""
    usual = 999 if settings.version >= _UNLIMITED and not settings.first_engine else 1
    return dict(settings.extras.mm_limits).get(kind, usual)


def _count(item: _Item, settings: Settings, length: int) -> int:
    """Items in the profile run: as many as the budget holds, and as all requests of a step may have."""
    tokens = max(1, item.features)
    budget, limit = max(settings.max_num_batched_tokens, tokens), _limit(settings, item.kind)
    if settings.version < _WHOLE_ITEMS:
        return max(1, min(-(-budget // tokens), settings.max_num_seqs * limit))
    per_prompt = max(1, min(limit, length // tokens))
    return max(1, min(budget // tokens, settings.max_num_seqs * per_prompt))
