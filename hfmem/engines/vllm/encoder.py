"""The encoder in vLLM's profile run: as many of the largest images as a step's budget holds run through the tower; then
the language model runs, while their pixels and features stay.

Sources: vLLM 0.10.2, 0.11.0, 0.12.0, 0.19.0 and 0.33.0, `v1/worker/gpu_model_runner.py::profile_run`; 0.7.3 and 0.9.2,
`worker/model_runner.py::_dummy_run`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from hfmem.dtypes import find_dtype
from hfmem.engines.vllm.inputs import Item, count_of, expanded, items_of
from hfmem.engines.vllm.media import kinds_of, limit_of, profiled_image, shares_batch, takes_media
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.engines.vllm.towers import CAST, Forward, forward_of
from hfmem.estimator.activations.towers import PIXEL, encoding
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term, total_of
from hfmem.mapper.interpret import Model
from hfmem.unknown import Unknown

if TYPE_CHECKING:
    from hfmem.mapper.inputs import Largest, Tower

__all__ = ["Profile", "covers", "has_encoder", "inputs_of", "profile_of", "size_notes", "untold"]

_BY_NAME: Final = (0, 17, 0)  # of kinds with as many features, the last by name runs; before, the first of the class
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
    return not settings.extras.mm_unprofiled and takes_media(model, settings)


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
    none = ", ".join(f'"{kind}": 0' for kind in kinds_of(model))
    return f"{reason} (--limit-mm-per-prompt '{{{none}}}' leaves it out)"


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
    settings = settings_of(scenario)
    if settings.extras.mm_unprofiled or _reduced(model, scenario):
        return False
    return not scenario.audio_tokens and profile_of(model, settings, scenario) is not None


def profile_of(model: Model, settings: Settings, scenario: Scenario) -> Profile | None:
    """The encoder's part of the profile run; None where the tower or its largest input is not known, or does not run.

    Args:
        model: the part of the model on a rank of the first stage.
        settings: the server's.
        scenario: the scenario.
    """
    tower, largest, items = model.tower, model.largest, items_of(model, settings, scenario)
    if tower is None or largest is None or not items:
        return None
    if settings.first_engine:
        return _together(tower, largest, items, scenario)
    item = _profiled(items, settings)
    item = replace(item, count=count_of(item, settings, scenario.seq))
    return _profile(tower, largest, item, scenario, shared=shares_batch(model, scenario))


def _profiled(items: Sequence[Item], settings: Settings) -> Item:
    """The kind that is profiled: that with the most tokens."""
    named = settings.version >= _BY_NAME
    return max(items, key=lambda one: (one.features, one.kind if named else ""))


def _reduced(model: Model, scenario: Scenario) -> bool:
    """Whether the images of the profile run are smaller than those that requests may have."""
    settings = settings_of(scenario)
    if not has_encoder(model, settings) or profiled_image(model, settings) is None:
        return False
    items = items_of(model, settings, scenario)
    item = _profiled(items, settings) if items else None
    return item is not None and item.kind == "image" and item.made < item.features


def size_notes(model: Model, scenario: Scenario) -> tuple[str, ...]:
    """What the sizes in `--limit-mm-per-prompt` do."""
    settings, kinds = settings_of(scenario), kinds_of(model)
    sized = [kind for kind, size in settings.extras.mm_sizes if size and kind in kinds and limit_of(settings, kind)]
    if not sized or not has_encoder(model, settings):
        return ()
    if _reduced(model, scenario):
        note = (
            "The size of images in --limit-mm-per-prompt is that of the profile run alone: requests may have larger "
            "ones, and what the encoder needs for those is outside of the budget."
        )
        return (note,)
    own = " and ".join(f"{kind}s" for kind in sized)
    return (f"The sizes of {own} in --limit-mm-per-prompt are not used: the profile run has the largest input.",)


def inputs_of(model: Model, scenario: Scenario) -> tuple[object, ...]:
    """The inputs of the encoder in the profile run, which depend on the longest request; none without an encoder."""
    settings = settings_of(scenario)
    if model.largest is None or not has_encoder(model, settings):
        return ()
    items = items_of(model, settings, scenario)
    return tuple((item.kind, item.made, item.features, count_of(item, settings, scenario.seq)) for item in items)


def _profile(tower: Tower, largest: Largest, item: Item, scenario: Scenario, *, shared: bool = False) -> Profile | None:
    """The run of so many items, which ranks may share."""
    settings, width = settings_of(scenario), _width(scenario)
    if not width:
        return None
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
    own = forward_of(tower.name, settings.release)
    if own is None or not item.patches:
        how = f"{item.told(mine)}: {found.how}; - {less:,} B"
        peak = _term("encoder's profile", found.peak - less, how, found.source)
    else:
        peak = _of_vllm(own, tower, run, item.told(mine), 1 if shared else scenario.parallel.tp)
    every = item.count * pixels * value
    if shared:  # a rank takes its images out of those of all
        peak = replace(peak, nbytes=peak.nbytes + every, how=f"{peak.how}; + {every:,} B of all {item.count}")
    features = (found.kept - mine * pixels * PIXEL) * item.count // mine
    copied = own is not None and own.joined and settings.first_engine
    return Profile(
        peak=peak, kept=_kept(item, every * (1 + copied), features, settings, _origin(largest, found.source))
    )


def _origin(largest: Largest, source: str) -> tuple[str, str]:
    """A remark on how large an item is, and the source of what it leaves."""
    return (f", by {largest.source}" if largest.default else ""), source


def _kept(item: Item, pixels: int, features: int, settings: Settings, origin: tuple[str, str]) -> Term:
    """What stays of so many bytes of pixels and features while the language model runs."""
    remark, source = origin
    how, rows = f"pixels and features of {item.told(item.count)}{remark}", expanded(item, settings)
    copies = features // item.made * rows
    if copies:
        how += f"; + {copies:,} B of {item.count} × {rows:,} rows into which they are copied"
    return _term("encoder outputs", pixels + features + copies, how, source)


def _of_vllm(own: Forward, tower: Tower, run: Scenario, what: str, tp: int) -> Term:
    """The run of vLLM's own class, each of whose layers is split over so many ranks."""
    wider = max(1, _width(run) // 2)
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


def _together(tower: Tower, largest: Largest, items: Sequence[Item], scenario: Scenario) -> Profile | None:
    """The first engine, whose prompts have as many of each kind as they may, one kind after another
    (0.7.3, `worker/model_runner.py::_dummy_run`)."""
    settings = settings_of(scenario)
    each = sum(item.features * limit_of(settings, item.kind) for item in items)
    prompts = max(1, min(settings.max_num_seqs, settings.max_num_batched_tokens // max(1, each)))
    found = [
        _profile(tower, largest, replace(item, count=prompts * limit_of(settings, item.kind)), scenario)
        for item in items
    ]
    known = [one for one in found if one is not None]
    if len(known) < len(items):
        return None
    highest = max(known, key=lambda one: one.peak.nbytes)
    kept = [one.kept for one in known]
    beside = total_of(kept) - highest.kept.nbytes
    peak, features = highest.peak, "; ".join(term.how for term in kept)
    how = peak.how + (f"; + {beside:,} B of another kind" if beside else "")
    own, text = forward_of(tower.name, settings.release), 0
    if own is not None and own.joined:  # get_input_embeddings_v0
        text = settings.max_num_batched_tokens * tower.sizes["out"] * _width(scenario)
        how += f"; + {text:,} B of the text's embeddings"
    return Profile(
        peak=replace(peak, nbytes=peak.nbytes + beside + text, how=how),
        kept=replace(highest.kept, nbytes=total_of(kept), how=features),
    )


def _width(scenario: Scenario) -> int:
    """Bytes of a value in the compute dtype; 0 where that is unknown."""
    dtype = find_dtype(scenario.compute_dtype or "")
    return dtype.nbytes(1) if dtype is not None else 0


def _term(name: str, nbytes: int, how: str, source: str) -> Term:
    # measured on the class of transformers; vLLM's own class has kernels of its own
    return Term(name=name, group="activations", nbytes=nbytes, how=how, source=_SOURCE + source, certainty="typical")
