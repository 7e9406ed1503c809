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
from hfmem.engines.vllm.classes import class_rule
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.engines.vllm.towers import CAST, Forward, forward_of
from hfmem.estimator.activations.towers import PIXEL, encoding
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term, total_of
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Largest, Tower
from hfmem.units import GIB
from hfmem.unknown import Unknown

__all__ = [
    "Profile",
    "built",
    "covers",
    "has_encoder",
    "inputs_of",
    "media_notes",
    "media_refusal",
    "prepared_terms",
    "profile_of",
    "shares_batch",
    "untold",
]

_UNLIMITED: Final = (0, 9, 2)  # from here on, --limit-mm-per-prompt defaults to 999 of each kind, else to 1
_WHOLE_ITEMS: Final = (0, 10, 0)  # before, the last item in the profile run need not fit into the budget
_BY_NAME: Final = (0, 17, 0)  # of kinds with as many features, the last by name runs; before, the first of the class
_FRAMES_OF_PROMPT: Final = (0, 11, 0)
_FRAMES: Final = 14  # of a video in the profile run, at most; before 0.11 some more
_MORE_FRAMES: Final = 16
_OPTIONS: Final = {  # and the first releases that have them
    "--language-model-only": (0, 17, 0),
    "--mm-encoder-tp-mode": (0, 10, 2),
    "--skip-mm-profiling": (0, 10, 1),
    "--mm-processor-cache-gb": (0, 10, 1),
}
_CACHED: Final = 4 * GIB  # of a process, for what is prepared already
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
    """Whether the profile run of a rank of the first stage, with `model` on it, has an encoder."""
    return not settings.extras.mm_unprofiled and _takes_media(model, settings)


def _takes_media(model: Model, settings: Settings) -> bool:
    components = {group.component for group in model.parameters.groups} if model.parameters else set()
    return bool(components & _ENCODERS) and any(_limit(settings, kind) for kind in _kinds(model))


def shares_batch(model: Model, scenario: Scenario) -> bool:
    """Whether tensor-parallel ranks share the images of a batch, each with all weights of the encoder."""
    settings = settings_of(scenario)
    asked = settings.extras.mm_data and scenario.parallel.tp > 1
    return asked and class_rule(model, settings.release).shared


def built(model: Model, scenario: Scenario) -> Model:
    """The model without the encoders that its class does not build, as a prompt may have none of their inputs."""
    settings, table = settings_of(scenario), model.parameters
    if table is None or not class_rule(model, settings.release).spared:
        return model
    kinds = [kind for kind in _kinds(model) if _limit(settings, kind)]
    out = set() if set(kinds) & {"image", "video"} else {"vision"}
    out |= set() if "audio" in kinds else {"audio"}
    out |= set() if kinds else {"projector"}
    groups = tuple(group for group in table.groups if group.component not in out)
    return model if len(groups) == len(table.groups) else replace(model, parameters=replace(table, groups=groups))


def prepared_terms(model: Model, scenario: Scenario) -> tuple[Term, ...]:
    """What processes keep of prepared images in host memory; `model` is the part on a rank of the first stage."""
    settings, engines = settings_of(scenario), scenario.parallel.dp
    each = _CACHED if settings.extras.mm_cache is None else settings.extras.mm_cache
    if settings.version < _OPTIONS["--mm-processor-cache-gb"] or not each or not _takes_media(model, settings):
        return ()
    how = f"up to {each / GIB:g} GiB in the API server and in {'the engine' if engines == 1 else f'{engines} engines'}"
    term = Term(
        name="prepared images, up to",
        group="overhead",
        nbytes=each * (1 + engines),
        how=f"{how} (--mm-processor-cache-gb)",
        source="vLLM 0.33.0, config/multimodal.py: mm_processor_cache_gb",
        certainty="typical",
    )
    return (term,)


def media_notes(model: Model, scenario: Scenario) -> tuple[str, ...]:
    """Remarks on options for encoders."""
    settings = settings_of(scenario)
    found = []
    if settings.extras.mm_data and not class_rule(model, settings.release).shared:
        found.append("vLLM's class does not let ranks share images: --mm-encoder-tp-mode data falls back to weights.")
    if settings.extras.mm_unprofiled and _takes_media(model, settings):
        found.append(
            "With --skip-mm-profiling, what the encoder needs for an image is outside of the budget, and not counted."
        )
    return tuple(found)


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
    named = {
        "--language-model-only": settings.extras.mm_nothing,
        "--mm-encoder-tp-mode": settings.extras.mm_split is not None,
        "--skip-mm-profiling": settings.extras.mm_unprofiled,
        "--mm-processor-cache-gb": settings.extras.mm_cache is not None,
    }
    for option, given in named.items():
        if given and settings.version < _OPTIONS[option]:
            since, release = (".".join(map(str, one)) for one in (_OPTIONS[option], settings.release))
            return f"{option} is an option of vLLM {since} and later, not of {release}"
    asked = {"image": scenario.images, "video": bool(scenario.video_tokens), "audio": bool(scenario.audio_tokens)}
    for kind, count in asked.items():
        limit = _limit(settings, kind)
        if count > limit:
            said = "--language-model-only" if settings.extras.mm_nothing else "--limit-mm-per-prompt"
            return f"{said} allows {limit} of '{kind}' in a prompt, and {count} are asked for"
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
    if settings_of(scenario).extras.mm_unprofiled:
        return False
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
    named = settings.version >= _BY_NAME
    item = max(items, key=lambda one: (one.features, one.kind if named else ""))
    item = replace(item, count=_count(item, settings, scenario.seq))
    return _profile(tower, largest, item, scenario, shared=shares_batch(model, scenario))


def inputs_of(model: Model, scenario: Scenario) -> tuple[object, ...]:
    """The inputs of the encoder in the profile run, which depend on the longest request; none without an encoder."""
    settings = settings_of(scenario)
    if model.largest is None or not has_encoder(model, settings):
        return ()
    items = _items(model, settings, scenario)
    return tuple((item.kind, item.made, item.features, _count(item, settings, scenario.seq)) for item in items)


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


def _profile(
    tower: Tower, largest: Largest, item: _Item, scenario: Scenario, *, shared: bool = False
) -> Profile | None:
    """The run of so many items, which ranks may share."""
    dtype = find_dtype(scenario.compute_dtype or "")
    if dtype is None:
        return None
    settings, width = settings_of(scenario), dtype.nbytes(1)
    mine = -(-item.count // scenario.parallel.tp) if shared else item.count
    run = replace(
        scenario,
        batch=1,
        images=mine,
        pieces=mine * item.pieces,
        patches=item.patches,
        image_tokens=mine * item.made,
        video_tokens=0,
        audio_tokens=0,
        attention="sdpa",
    )
    found = encoding(tower, run)
    if isinstance(found, Unknown):
        return None
    # vLLM's processors hand pixels over in the model's dtype, those of transformers in float32
    value = PIXEL if settings.version < CAST else width
    pixels = item.pieces * (item.patches or tower.patches) * tower.sizes["pixels"]
    less = mine * pixels * (PIXEL - value)
    what = _told(item, item.count) + (f", by {largest.source}" if largest.default else "")
    kept = (found.kept - less) * item.count // mine
    own = forward_of(tower.name, settings.release)
    if own is None or not item.patches:
        how = f"{_told(item, mine)}: {found.how}; - {less:,} B"
        peak = _term("encoder's profile", found.peak - less, how, found.source)
    else:
        peak = _of_vllm(own, tower, run, _told(item, mine), 1 if shared else scenario.parallel.tp)
    if shared:  # a rank takes its images out of those of all
        every = item.count * pixels * value
        peak = replace(peak, nbytes=peak.nbytes + every, how=f"{peak.how}; + {every:,} B of all {item.count}")
    return Profile(peak=peak, kept=_term("encoder outputs", kept, f"pixels and features of {what}", found.source))


def _told(item: _Item, count: int) -> str:
    return f"{count} {item.kind}{'' if count == 1 else 's'} of {item.made:,} tokens"


def _of_vllm(own: Forward, tower: Tower, run: Scenario, what: str, tp: int) -> Term:
    """The run of vLLM's own class, each of whose layers is split over so many ranks."""
    dtype = find_dtype(run.compute_dtype or "")
    wider = max(1, dtype.nbytes(1) // 2) if dtype is not None else 1
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
    if settings.extras.mm_nothing:
        return 0
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
