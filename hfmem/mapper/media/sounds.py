"""Sound: samples become frames, and frames tokens, in windows that are padded or capped."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from hfmem.mapper.media.values import Ask, Keys, RefusedMediaError, Sound, Tokens, UncountedError

__all__ = [
    "blocks",
    "chunked",
    "compressed",
    "convolved",
    "embedded",
    "encoded",
    "fixed",
    "framed",
    "frames_of",
    "low_rate",
    "padded_windows",
    "pooled_windows",
    "sampled",
    "seconds_of",
    "subsampled",
    "thirteen",
    "windowed",
]


def samples_of(keys: Keys, sound: Sound) -> int:
    """Samples of a sound at the rate that the model takes."""
    return max(1, int(sound.seconds * keys.size("sampling_rate")))


def frames_of(keys: Keys, samples: int) -> int:
    """Frames that are not padding: Whisper's mask takes every sample at the start of a step."""
    return -(-samples // keys.size("hop_length"))


def _told(frames: int, tokens: int) -> Tokens:
    return Tokens(count=tokens, how=f"{frames:,} frames, {tokens:,} tokens")


def _halved_twice(frames: int) -> int:
    """A convolution of stride 2 and a pooling by 2."""
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


def _capped(keys: Keys, samples: int) -> int:
    """Samples of one window: what is longer is cut off."""
    return min(samples, keys.size("n_samples"))


def windowed(ask: Ask, sound: Sound) -> Tokens:
    """One window, of which longer sound is cut off (Qwen2-Audio, Qwen2.5-Omni)."""
    keys = ask.audio
    frames = frames_of(keys, _capped(keys, samples_of(keys, sound)))
    found = _told(frames, _halved_twice(frames))
    long = (
        f", capped at {keys.size('n_samples') // keys.size('sampling_rate')} s"
        if frames * keys.size("hop_length") >= keys.size("n_samples")
        else ""
    )
    return Tokens(count=found.count, how=found.how + long, pieces=1)


def encoded(ask: Ask, sound: Sound) -> Tokens:
    """One window that is always padded to its full length, and halved; longer sound is taken window by window
    (Whisper)."""
    keys = ask.audio
    tokens = keys.size("nb_max_frames") // 2
    how = f"{keys.size('nb_max_frames'):,} frames of a window, {tokens:,} states"
    if samples_of(keys, sound) > keys.size("n_samples"):
        how += "; longer sound is taken window by window"
    return Tokens(count=tokens, how=how)


def _windows(ask: Ask, sound: Sound) -> tuple[list[int], str]:
    """Samples of each window, up to the longest sound that the processor takes."""
    keys = ask.audio
    samples, window = samples_of(keys, sound), int(keys.size("sampling_rate") * keys.number("chunk_length"))
    count = max(1, -(-samples // window))
    if ask.processor.get("max_audio_len") is not None:
        count = min(count, int(ask.processor.number("max_audio_len") // keys.number("chunk_length")))
    capped = min(samples, count * window)
    return [min(window, capped - start * window) for start in range(count)], f"{count} windows of {window:,} samples"


def _positions(keys: Keys, lengths: list[int]) -> int:
    """Of each window, which are padded to the longest of them."""
    return -(-frames_of(keys, max(lengths)) // 2)


def pooled_windows(ask: Ask, sound: Sound) -> Tokens:
    """Windows whose frames are pooled together (Audio Flamingo 3, Music Flamingo)."""
    lengths, told = _windows(ask, sound)
    frames = sum(frames_of(ask.audio, length) for length in lengths)
    tokens = _halved_twice(frames)
    how = f"{told}, {frames:,} frames, {tokens:,} tokens"
    return Tokens(count=tokens, how=how, pieces=len(lengths), patches=_positions(ask.audio, lengths))


_GLM_MERGE: Final = 4  # frames of a token (processing_glmasr.py)


def merged_windows(ask: Ask, sound: Sound) -> Tokens:
    """Windows whose frames are halved, and merged by four (GLM-ASR)."""
    lengths, told = _windows(ask, sound)
    frames = sum(frames_of(ask.audio, length) for length in lengths)
    halved = (frames - 1) // 2 + 1
    tokens = (halved - _GLM_MERGE) // _GLM_MERGE + 1
    how = f"{told}, {frames:,} frames, {tokens:,} tokens"
    return Tokens(count=tokens, how=how, pieces=len(lengths), patches=_positions(ask.audio, lengths))


def padded_windows(ask: Ask, sound: Sound) -> Tokens:
    """Windows that are all padded to their full length (Voxtral)."""
    keys = ask.audio
    samples, window = samples_of(keys, sound), keys.size("n_samples")
    frames = window // keys.size("hop_length")
    count = -(-samples // window)
    layer = _nested(ask.config, "audio_config")
    width, inner = layer.size("hidden_size", default=1280), layer.size("intermediate_size", default=5120)
    tokens = frames // 2 * width // inner
    how = f"{count} windows of {window // keys.size('sampling_rate')} s × {tokens} tokens"
    return Tokens(count=count * tokens, how=how, pieces=count)


def _nested(config: object, key: str) -> Keys:
    found = config.get(key) if isinstance(config, dict) else None
    return Keys((found if isinstance(found, dict) else {},))


def thirteen(ask: Ask, sound: Sound) -> Tokens:
    """Chunks of frames, each of which three convolutions of stride 2 make into 13 tokens (Qwen3-Omni, Qwen3-ASR)."""
    keys = ask.audio
    samples = samples_of(keys, sound)
    least = keys.integer("min_length", default=0)
    frames = frames_of(keys, max(samples, least))
    if max(samples, least) % keys.size("hop_length"):  # the mask drops its last frame then
        frames -= 1
    chunk = 2 * Keys((*ask.processor.layers, *keys.layers)).size("n_window", default=50)
    left = frames % chunk
    for _ in range(3):
        left = (left - 1) // 2 + 1
    tokens = left + frames // chunk * 13
    return Tokens(count=tokens, how=f"{frames:,} frames, {tokens:,} tokens: 13 for each {chunk} frames")


def embedded(ask: Ask, sound: Sound) -> Tokens:
    """Convolutions of stride 2 over the frames (Nemotron-H Omni)."""
    keys = ask.processor
    frames = 1 + max(1, int(sound.seconds * keys.size("audio_sampling_rate"))) // keys.size("audio_hop_length")
    kernel = keys.size("audio_subsampling_conv_kernel_size", default=3)
    stride = keys.size("audio_subsampling_conv_stride", default=2)
    padding = (kernel - 1) // 2 * 2 - kernel
    tokens = frames
    for _ in range(int(math.log2(keys.size("audio_subsampling_factor")))):
        tokens = (tokens + padding) // stride + 1
    return _told(frames, max(1, tokens))


def subsampled(ask: Ask, sound: Sound) -> Tokens:
    """Frames divided by the encoder's factor (Nemotron 3.5 Transcribe)."""
    keys = ask.audio
    samples = samples_of(keys, sound)
    fft = keys.size("n_fft")
    frames = (samples + fft // 2 * 2 - fft) // keys.size("hop_length")
    factor = ask.processor.size("subsampling_factor")
    return _told(frames, (frames + factor - 1) // factor)


def blocks(ask: Ask, sound: Sound) -> Tokens:
    """Blocks of frames, each with a fixed number of queries (Granite Speech)."""
    keys = ask.audio
    hop = keys.within("melspec_kwargs", "hop_length") or keys.size("hop_length", default=160)
    frames = samples_of(keys, sound) // hop + 1
    window, down = keys.size("projector_window_size"), keys.size("projector_downsample_rate")
    count = math.ceil(frames // 2 / window)
    return Tokens(count=count * (window // down), how=f"{frames:,} frames, {count} blocks × {window // down}")


def compressed(ask: Ask, sound: Sound) -> Tokens:
    """Frames divided by two factors, each rounded up (Phi-4 Multimodal)."""
    keys = ask.audio
    samples = samples_of(keys, sound)
    frames = ((samples - keys.size("win_length")) // keys.size("hop_length") + 1) * keys.size("audio_feat_stride")
    if frames < 1:
        raise RefusedMediaError("the sound is shorter than one frame")
    tokens = -(-frames // keys.size("audio_compression_rate"))
    return _told(frames, -(-tokens // keys.size("audio_downsample_rate")))


def fixed(ask: Ask, sound: Sound) -> Tokens:  # noqa: ARG001 - a `SoundRule`
    """A number for sound of any length (Gemma 3n)."""
    count = ask.processor.size("audio_seq_length")
    return Tokens(count=count, how=f"{count} for sound of any length ('audio_seq_length')")


_GEMMA_MOST: Final = 480_000  # samples (Gemma4AudioFeatureExtractor.__call__)


def framed(ask: Ask, sound: Sound) -> Tokens:
    """Overlapping frames, halved twice; long sound is cut off (Gemma 4)."""
    keys = ask.audio
    samples = min(samples_of(keys, sound), _GEMMA_MOST)
    rate = keys.size("sampling_rate")
    frame = keys.size("frame_length", default=round(rate * keys.number("frame_length_ms", default=20.0) / 1000))
    hop = keys.size("hop_length", default=round(rate * keys.number("hop_length_ms", default=10.0) / 1000))
    # a frame counts if its last sample is one of the sound: half a frame of nothing is put before it
    frames = max(0, (samples + frame // 2 - frame - 1) // hop + 1)
    tokens = frames
    for _ in range(2):
        tokens = -(-tokens // 2)
    long = ", capped at 30 s" if samples == _GEMMA_MOST else ""
    return Tokens(count=tokens, how=f"{frames:,} frames, {tokens:,} tokens{long}")


def sampled(*names: str) -> Callable[[Ask, Sound], Tokens]:
    """So many samples to a token, rounded up."""

    def rule(ask: Ask, sound: Sound) -> Tokens:
        keys = Keys((*ask.processor.layers, *ask.audio.layers))
        samples, each = samples_of(keys, sound), keys.size(*names)
        count = -(-samples // each)
        return Tokens(count=count, how=f"{samples:,} samples, {each:,} in a token")

    return rule


def low_rate(ask: Ask, sound: Sound) -> Tokens:
    """Frames taken together at a lower rate (Fun-ASR-Nano)."""
    keys = ask.audio
    rate = keys.size("sampling_rate")
    samples = samples_of(keys, sound)
    length, shift = (int(rate * keys.number(name) / 1000) for name in ("frame_length", "frame_shift"))
    frames = 1 + (samples - length) // shift
    if frames < 1:
        raise RefusedMediaError("the sound is shorter than one frame")
    stride = keys.size("stride_lfr")
    return _told(frames, (frames + stride - 1) // stride)


_NOTE_MERGE: Final = 8  # steps of a token (feature_extraction_dots3_note.py)


def chunked(ask: Ask, sound: Sound) -> Tokens:
    """Chunks, each with its own rounding up (Dots3 Note)."""
    keys = ask.audio
    samples, chunk, each = samples_of(keys, sound), keys.size("n_samples"), keys.size("hop_length") * _NOTE_MERGE
    whole, left = divmod(samples, chunk)
    count = whole * math.ceil(chunk / each) + math.ceil(left / each)
    return Tokens(count=count, how=f"{samples:,} samples in chunks of {chunk:,}, {each:,} in a token")


def seconds_of(ask: Ask, sound: Sound) -> Tokens:
    """Windows, each halved and merged with its own rounding up (MOSS Transcribe-Diarize)."""
    keys = ask.audio
    merge = ask.processor.size("audio_merge_size")
    samples, window, count = samples_of(keys, sound), keys.size("n_samples"), 0
    for start in range(0, samples, window):
        frames = frames_of(keys, min(window, samples - start))
        count += ((frames - 1) // 2 + merge) // merge
    return Tokens(count=count, how=f"{samples:,} samples in windows of {window:,}, {merge} halved frames in a token")


def convolved(ask: Ask, sound: Sound) -> Tokens:
    """A stack of convolutions over samples (OmniASR)."""
    samples = samples_of(ask.audio, sound)
    kernels = _sides(ask.processor, "conv_kernel", (10, 3, 3, 3, 3, 2, 2))
    strides = _sides(ask.processor, "conv_stride", (5, 2, 2, 2, 2, 2, 2))
    count = samples
    for kernel, stride in zip(kernels, strides, strict=True):
        count = (count - kernel) // stride + 1
    if count < 1:
        raise RefusedMediaError("the sound is shorter than one frame")
    return Tokens(count=count, how=f"{samples:,} samples, {len(kernels)} convolutions")


def _sides(keys: Keys, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    found = keys.get(name)
    if found is None:
        return default
    if not isinstance(found, (list, tuple)) or not all(type(one) is int and one > 0 for one in found):
        raise UncountedError(f"in the processor's files, '{name}' is impossible")
    return tuple(found)
