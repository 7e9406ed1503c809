"""What an estimate is asked for: a scenario with every open option resolved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hfmem.estimator.parallel import SINGLE, Parallel
from hfmem.hardware.values import Accelerator
from hfmem.mapper.interpret import Model
from hfmem.mapper.modules import Device
from hfmem.options.words import Attention, Method, Mode

__all__ = ["Attention", "Generation", "Method", "Mode", "PackedCache", "Placing", "Scenario", "Settings"]


class Settings(Protocol):
    """The settings of a serving engine, as far as code outside of the engine's module needs them.

    Attributes:
        chosen: a sentence for each setting that the engine chose and the user did not.
    """

    @property
    def chosen(self) -> tuple[str, ...]: ...

    def describe(self) -> str:
        """The engine and its release, in a few words for the card."""

    def fields(self) -> Mapping[str, Any]:
        """The engine's entries in `scenario` of the JSON output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedCache:
    """How a quantised cache stores keys and values.

    Attributes:
        backend: the library that quantises: `quanto`, `hqq`, or `fp8` for the 8-bit format of transformers itself.
        bits: bits per element.
        group: elements with one scale and one zero point; 0 for one scale for the whole tensor.
        residual: tokens that stay unquantised until so many are together; 0 for none.
    """

    backend: str
    bits: int
    group: int
    residual: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """How `generate` of transformers makes sequences, and the cache that it makes them with.

    Attributes:
        beams: sequences that a beam search holds for each prompt; 1 for none.
        sequences: answers for each prompt.
        cache: `dynamic` (grows by each token), `static` (all tokens from the start), `offloaded` and `offloaded_static`
            (in the host's memory, but for the layer that runs and the next one), or `quantized`.
        packed: how a quantised cache stores keys and values; None for other caches.
        assistant: the model that drafts tokens; None without one, and where it could not be read.
        assisted_by: its name; "" without one.
    """

    beams: int = 1
    sequences: int = 1
    cache: str = "dynamic"
    packed: PackedCache | None = None
    assistant: Model | None = field(default=None, compare=False, repr=False)
    assisted_by: str = ""

    @property
    def copies(self) -> int:
        """Sequences for each prompt."""
        return max(self.beams, self.sequences)

    @property
    def static(self) -> bool:
        """Whether all tokens are allocated from the start."""
        return self.cache in ("static", "offloaded_static")

    @property
    def offloaded(self) -> bool:
        """Whether layers that do not run are in the host's memory."""
        return self.cache in ("offloaded", "offloaded_static")


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """How whole modules are put on devices.

    Attributes:
        way: `auto`, `balanced`, `balanced_low_0` or `sequential`.
        limits: the most bytes of weights on each device, if the user sets them; devices that are not named get none.
    """

    way: str
    limits: tuple[tuple[Device, int], ...] = ()

    @property
    def accelerators(self) -> int:
        """Accelerators up to the last one with a limit; 0 without limits."""
        return max((device + 1 for device, _ in self.limits if isinstance(device, int)), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is estimated, with every open option resolved.

    Attributes:
        source_seq: encoder tokens (or image tokens that the decoder cross-attends to); None where there are none.
        dtype: the requested dtype or quantisation, else the checkpoint's; None where neither is known.
        word: the requested `--dtype` in lower case, which may name a quantisation tool; "" if not given.
        compute_dtype: the floating-point dtype of activations (and, by default, of the KV cache).
        kv_dtype: dtype of the KV cache.
        chosen: a sentence for each option that was resolved from the model and not given by the user.
        parallel: the parallel plan.
        gpu: the accelerator; None if not given.
        reserve: bytes of each accelerator in use by the display or other programs.
        serving: the settings of a serving engine; None for other runtimes.
        unattended: why the requested attention does not run on the accelerator; "" where it does.
        prompt: prompt tokens, the rest of `seq` being generated; None: all of `seq` is the prompt.
        prefill_chunk: prompt tokens per forward pass; None: the whole prompt in one pass.
        images: images in a sequence.
        image_tokens, video_tokens, audio_tokens: tokens of a sequence that stand for images, a video and sound; part of
            the prompt, or of `source_seq` where the decoder attends to them.
        pieces: images that the tower runs for a sequence, tiles counted one by one; 0 where that is not known.
        patches: patches of each; 0 for those of the tower's own size of images.
        windows: of sound, that the tower runs for a sequence; 0 where that is not known.
        positions: of each; 0 for those of the tower's own length.
        image_height, image_width: pixels of the images of a network that takes nothing else; 0 for other models.
        generation: how sequences are made and cached; None for one greedy sequence per prompt and a cache that grows.
        placing: how whole modules are put on devices; None where they are not, but split by `parallel`.
        Others as in `Options`.
    """

    mode: Mode
    batch: int
    seq: int
    dtype: str | None
    compute_dtype: str | None
    kv_dtype: str | None
    runtime: str
    attention: Attention
    method: Method
    word: str = ""
    train: str | None = None
    optimizer: str | None = None
    source_seq: int | None = None
    chosen: tuple[str, ...] = ()
    parallel: Parallel = SINGLE
    gpu: Accelerator | None = None
    serving: Settings | None = None
    reserve: int = 0
    unattended: str = ""
    prompt: int | None = None
    prefill_chunk: int | None = None
    images: int = 0
    image_tokens: int = 0
    video_tokens: int = 0
    audio_tokens: int = 0
    pieces: int = 0
    patches: int = 0
    windows: int = 0
    positions: int = 0
    image_height: int = 0
    image_width: int = 0
    generation: Generation | None = None
    placing: Placing | None = None

    @property
    def media_tokens(self) -> int:
        """Tokens of a sequence that stand for images, a video or sound."""
        return self.image_tokens + self.video_tokens + self.audio_tokens

    @property
    def available(self) -> int:
        """Bytes of the accelerator that are not reserved; 0 where no accelerator is given."""
        return 0 if self.gpu is None else max(0, self.gpu.memory - self.reserve)
