"""Images, videos and sound of a scenario: how many tokens they are, within the prompt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from hfmem.estimator.scenario import Scenario
from hfmem.mapper.interpret import Model
from hfmem.options.media import USUAL_IMAGE, image_size
from hfmem.options.otherwise import Detail
from hfmem.refusals.media import LoneImageSizeError, MediaError, MediaLengthError
from hfmem.scenario.options import Options

if TYPE_CHECKING:
    from hfmem.mapper.media.count import Counter

__all__ = ["with_media"]

_Any = TypeVar("_Any", bound=Scenario)


class _Part(NamedTuple):
    """One kind: its tokens in a sequence, in words, and by which arithmetic."""

    option: str
    what: str
    tokens: int
    how: str
    pieces: int = 0
    patches: int = 0


def with_media(scenario: _Any, options: Options, model: Model) -> _Any:
    """The scenario with the tokens of what is in its prompts beside text.

    Raises:
        InvalidScenarioError: they cannot be counted, or exceed the prompt.
    """
    if model.network is not None:
        from hfmem.scenario.pictures import with_pictures  # for networks that take nothing but images

        return with_pictures(scenario, options, model.network)
    if options.image_size is not None and options.images is None and options.video_frames is None:
        raise LoneImageSizeError
    if not options.images and options.video_frames is None and options.audio_seconds is None:
        return scenario
    if model.pipeline is not None:  # what it is given is no part of a prompt: its engine has its rules
        return scenario
    rules = _counter(options, model)
    parts = {part.option: part for part in _parts(rules, options)}
    total = sum(part.tokens for part in parts.values())
    source = scenario.source_seq
    if rules.rules.encoded:
        source = _encoded(scenario, options, model, total)
    elif total > (limit := scenario.prompt or scenario.seq):
        raise MediaLengthError(total, "--prompt" if scenario.prompt else "--seq", limit)
    told = [sentence for part in parts.values() for sentence in _told(part, rules)]
    seen, heard = parts.get("--images"), parts.get("--audio-seconds")
    return replace(
        scenario,
        images=options.images or 0,
        pieces=seen.pieces if seen else 0,
        patches=seen.patches if seen else 0,
        windows=heard.pieces if heard else 0,
        positions=heard.patches if heard else 0,
        image_tokens=_tokens(parts, "--images"),
        video_tokens=_tokens(parts, "--video-frames"),
        audio_tokens=_tokens(parts, "--audio-seconds"),
        source_seq=source,
        chosen=(*(told_before for told_before in scenario.chosen if not told_before.startswith("No images")), *told),
    )


def _tokens(parts: dict[str, _Part], option: str) -> int:
    return parts[option].tokens if option in parts else 0


def _counter(options: Options, model: Model) -> Counter:
    """The rules of the model's processor."""
    from hfmem.mapper.media.count import counter  # its tables are for runs with images or sound only
    from hfmem.mapper.media.values import UncountedError

    checkpoint = model.checkpoint
    try:
        if checkpoint.config is None:
            raise UncountedError("there is no config.json that tells its processor")
        return counter(checkpoint.config, checkpoint.processing)
    except UncountedError as error:
        raise MediaError(_first(options), error.reason) from error


def _first(options: Options) -> str:
    if options.images:
        return "--images"
    return "--video-frames" if options.video_frames is not None else "--audio-seconds"


def _parts(rules: Counter, options: Options) -> Iterator[_Part]:
    from hfmem.mapper.media.values import Clip, Picture, Sound, UncountedError

    width, height = image_size(options.image_size) if options.image_size else USUAL_IMAGE
    option = ""
    try:
        if options.images:
            option, count = "--images", options.images
            one = rules.image(Picture(width=width, height=height, of=count))
            plural = "image" if count == 1 else "images"
            what = f"{count:,} {plural} of {width} × {height}"
            yield _Part(
                option=option,
                what=what,
                tokens=count * one.count,
                how=f"{count} × {one.count:,} ({one.how})",
                pieces=count * one.pieces,
                patches=one.patches,
            )
        if options.video_frames is not None:
            option, frames = "--video-frames", options.video_frames
            clip = rules.video(Clip(frames=frames, width=width, height=height))
            what = f"a video of {frames:,} frames of {width} × {height}"
            yield _Part(option=option, what=what, tokens=clip.count, how=clip.how)
        if options.audio_seconds is not None:
            option, seconds = "--audio-seconds", options.audio_seconds
            sound = rules.audio(Sound(seconds=seconds))
            yield _Part(
                option=option,
                what=f"{seconds:g} seconds of sound",
                tokens=sound.count,
                how=sound.how,
                pieces=sound.pieces,
                patches=sound.patches,
            )
    except UncountedError as error:
        raise MediaError(option, error.reason) from error


def _encoded(scenario: Scenario, options: Options, model: Model, total: int) -> int | None:
    """Tokens of the encoder, or that the decoder attends to, with those of the images."""
    source = scenario.source_seq
    if model.architecture.source == "images":
        if options.source_seq is not None and options.source_seq < total:
            raise MediaLengthError(total, "--source-seq", options.source_seq)
        return options.source_seq or total
    if source is not None and total > source:
        raise MediaLengthError(total, "--source-seq", source)
    return source


def _told(part: _Part, rules: Counter) -> Iterator[str]:
    """What is taken, and by which arithmetic."""
    where = "that the decoder attends to" if rules.rules.encoded else "of the prompt"
    size = "" if part.option == "--audio-seconds" else " pixels"
    usual = f", by {rules.source}, as none of its files was read" if rules.default else ""
    yield f"{part.what[:1].upper()}{part.what[1:]}{size}: {part.tokens:,} tokens {where}{usual}."
    by = "" if rules.default else f", by {rules.source}"
    yield Detail(f"{part.option}: {part.how}{by}.")
