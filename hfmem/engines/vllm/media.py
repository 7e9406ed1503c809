"""What a prompt may have beside text, and vLLM's options about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hfmem.engines.vllm.classes import class_rule
from hfmem.engines.vllm.extras import MANY
from hfmem.engines.vllm.settings import Settings, settings_of
from hfmem.engines.vllm.towers import forward_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.mapper.interpret import Model
from hfmem.units import GIB

__all__ = [
    "built",
    "kinds_of",
    "limit_of",
    "media_notes",
    "media_refusal",
    "multimodal",
    "prepared_terms",
    "profiled_image",
    "shares_batch",
    "takes_media",
]

_UNLIMITED: Final = (0, 9, 2)  # from here on, --limit-mm-per-prompt defaults to 999 of each kind, else to 1
_OPTIONS: Final = {  # and the first releases that have them
    "--language-model-only": (0, 17, 0),
    "--mm-encoder-tp-mode": (0, 10, 2),
    "--skip-mm-profiling": (0, 10, 1),
    "--mm-processor-cache-gb": (0, 10, 1),
}
_SIZED: Final = (0, 11, 1)  # from here on, --limit-mm-per-prompt may have objects
_CACHED: Final = 4 * GIB  # of a process, for what is prepared already
_ENCODERS: Final = frozenset({"vision", "audio"})


def multimodal(model: Model) -> bool:
    """Whether the model has an encoder of images or sound."""
    components = {group.component for group in model.parameters.groups} if model.parameters else set()
    return bool(components & _ENCODERS)


def takes_media(model: Model, settings: Settings) -> bool:
    """Whether the model has an encoder, and a prompt may have something for it."""
    return multimodal(model) and any(limit_of(settings, kind) for kind in kinds_of(model))


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
    kinds = [kind for kind in kinds_of(model) if limit_of(settings, kind)]
    out = set() if set(kinds) & {"image", "video"} else {"vision"}
    out |= set() if "audio" in kinds else {"audio"}
    out |= set() if kinds else {"projector"}
    groups = tuple(group for group in table.groups if group.component not in out)
    return model if len(groups) == len(table.groups) else replace(model, parameters=replace(table, groups=groups))


def prepared_terms(model: Model, scenario: Scenario) -> tuple[Term, ...]:
    """What processes keep of prepared images in host memory; `model` is the part on a rank of the first stage."""
    settings, engines = settings_of(scenario), scenario.parallel.dp
    each = _CACHED if settings.extras.mm_cache is None else settings.extras.mm_cache
    if settings.version < _OPTIONS["--mm-processor-cache-gb"] or not each or not takes_media(model, settings):
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
    if settings.extras.mm_unprofiled and takes_media(model, settings):
        found.append(
            "With --skip-mm-profiling, what the encoder needs for an image is outside of the budget, and not counted."
        )
    return tuple(found)


def profiled_image(model: Model, settings: Settings) -> tuple[int, int] | None:
    """Width and height of the images in the profile run; None for those of the most tokens (vLLM 0.11.2 to 0.33.0,
    `BaseDummyInputsBuilder._get_dummy_images`). Classes that do not state how many tokens an image has take those of
    the profiled one, and more of them: of these, the largest stand for all."""
    size = dict(dict(settings.extras.mm_sizes).get("image", ()))
    own = forward_of(model.tower.name, settings.release) if model.tower is not None else None
    if own is None or not own.stated or not {"width", "height"} <= set(size):
        return None
    return size["width"], size["height"]


def kinds_of(model: Model) -> tuple[str, ...]:
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
    if settings.extras.mm_sizes and settings.version < _SIZED:
        since, release = (".".join(map(str, one)) for one in (_SIZED, settings.release))
        return f"--limit-mm-per-prompt has objects in vLLM {since} and later; {release} takes numbers"
    asked = {"image": scenario.images, "video": bool(scenario.video_tokens), "audio": bool(scenario.audio_tokens)}
    for kind, count in asked.items():
        limit = limit_of(settings, kind)
        if count > limit:
            said = "--language-model-only" if settings.extras.mm_nothing else "--limit-mm-per-prompt"
            return f"{said} allows {limit} of '{kind}' in a prompt, and {count} are asked for"
    return ""


def limit_of(settings: Settings, kind: str) -> int:
    """Items of a kind that a prompt may have."""
    if settings.extras.mm_nothing:
        return 0
    usual = MANY if settings.version >= _UNLIMITED and not settings.first_engine else 1
    return dict(settings.extras.mm_limits).get(kind, usual)
