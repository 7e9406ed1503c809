"""The largest images and videos of vLLM's profile run, and how many of them it has.

Sources: vLLM 0.7.3 to 0.33.0, `multimodal/encoder_budget.py::MultiModalBudget` (0.10 to 0.16: `v1/worker/utils.py`),
`v1/core/encoder_cache_manager.py::compute_mm_encoder_budget`, `model_executor/models/{qwen2_vl,qwen3_vl}.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hfmem.engines.vllm.media import limit_of, profiled_image
from hfmem.engines.vllm.settings import Settings
from hfmem.engines.vllm.towers import forward_of
from hfmem.estimator.scenario import Scenario
from hfmem.mapper.interpret import Model

if TYPE_CHECKING:
    from hfmem.mapper.inputs import Largest, LargestInput

__all__ = ["Item", "count_of", "expanded", "items_of"]

_WHOLE_ITEMS: Final = (0, 10, 0)  # before, the last item in the profile run need not fit into the budget
_FRAMES_OF_PROMPT: Final = (0, 11, 0)
_FRAMES: Final = 14  # of a video in the profile run, at most; before 0.11 some more
_MORE_FRAMES: Final = 16
_TO_BUDGET: Final = (0, 11, 0)  # from here on, outputs were copied into as many rows as the encoder cache may have
_TO_ITEM: Final = (0, 12, 0)  # into as many as an item counts
_AS_MADE: Final = (0, 13, 0)  # and were kept as they are again


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """Images or videos of the largest size.

    Attributes:
        kind: image or video.
        features: tokens by which each is counted.
        pieces: what the tower runs for each.
        patches: of a piece; 0 for the tower's own.
        made: features that come out for each.
        count: how many there are.
    """

    kind: str
    features: int
    pieces: int
    patches: int
    made: int
    count: int = 1

    def told(self, count: int) -> str:
        """So many of them, in words."""
        return f"{count} {self.kind}{'' if count == 1 else 's'} of {self.made:,} tokens"


def items_of(model: Model, settings: Settings, scenario: Scenario) -> list[Item]:
    """The largest input of each kind that a prompt may have; none where one of them is not known."""
    largest, found = model.largest, list[Item]()
    if largest is None:
        return found
    for kind in largest.kinds:
        if not limit_of(settings, kind):
            continue
        item = None
        if kind == "image":
            item = _image(model, largest, settings)
        elif kind == "video":
            item = _video(model, largest, settings, scenario)
        if item is None:
            return []
        found.append(item)
    return found


def _image(model: Model, largest: Largest, settings: Settings) -> Item | None:
    image, size = largest.image, profiled_image(model, settings)
    if image is None or (image.patches and largest.default):  # how large images may be is in the processor's files
        return None
    run = image if size is None else _smaller(model, image, *size)
    return Item(kind="image", features=image.features, pieces=run.pieces, patches=run.patches, made=run.features)


def _smaller(model: Model, image: LargestInput, width: int, height: int) -> LargestInput:
    """The image of that size, or the largest, where that is none that the processor takes."""
    run = model.image_of(width, height)
    return run if run is not None and run.features < image.features else image


def _video(model: Model, largest: Largest, settings: Settings, scenario: Scenario) -> Item | None:
    """As many frames as the longest prompt holds (`get_num_frames_with_most_features`); before 0.11, those that run are
    as many as a step holds. Where all frames have one limit of pixels, more of them are smaller; of such a video,
    Qwen3-VL's class once counted texts between the frames, too (`get_max_video_tokens`)."""
    video = largest.video
    if video is None or largest.default:
        return None
    if video.whole:
        own = forward_of(model.tower.name, settings.release) if model.tower is not None else None
        size = video.longest if scenario.seq >= video.longest.features else video.step
        counted = int(size.features * (own.spelled if own is not None else 1))
        return Item(kind="video", features=counted, pieces=1, patches=size.patches, made=size.features)
    late = settings.version >= _FRAMES_OF_PROMPT
    most = (_FRAMES if late else _MORE_FRAMES) // video.frames
    image = 0 if late or largest.image is None else largest.image.features * limit_of(settings, "image")

    def steps(length: int) -> int:
        return max(1, min(most, length // video.step.features))

    counted = steps(scenario.seq - image)
    made = counted if late else steps(settings.max_num_batched_tokens - image)
    features, patches = video.step.features, video.step.patches
    return Item(kind="video", features=counted * features, pieces=1, patches=made * patches, made=made * features)


def count_of(item: Item, settings: Settings, length: int) -> int:
    """Items in the profile run: as many as the budget holds, and as all requests of a step may have."""
    tokens = max(1, item.features)
    budget, limit = max(settings.max_num_batched_tokens, tokens), limit_of(settings, item.kind)
    if settings.version < _WHOLE_ITEMS:
        return max(1, min(-(-budget // tokens), settings.max_num_seqs * limit))
    per_prompt = max(1, min(limit, length // tokens))
    return max(1, min(budget // tokens, settings.max_num_seqs * per_prompt))


def expanded(item: Item, settings: Settings) -> int:
    """Rows into which the features of each item are copied for the encoder cache; 0 where they are kept as they are
    (0.11.0 and 0.12.0, `v1/worker/gpu_model_runner.py::profile_run`)."""
    if settings.first_engine or not _TO_BUDGET <= settings.version < _AS_MADE:
        return 0
    budget = max(settings.max_num_batched_tokens, item.features)
    rows = budget if settings.version < _TO_ITEM else item.features
    return rows if rows > item.made else 0
