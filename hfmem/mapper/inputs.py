"""What a model takes other than tokens: the towers that read it, and the largest that processors let in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Largest", "LargestInput", "LargestVideo", "Network", "Tower"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network of timm, which takes images and nothing else.

    Attributes:
        name: of its class in `timm.create_model`.
        channels, height, width: of the images that its weights were trained with.
        usual: whether the config does not say so, and timm's own default is taken.
        fixed: whether the config says that its class takes no other size.
        dynamic: whether the class is asked to take other sizes all the same (`dynamic_img_size`).
        changed: further arguments of its class in the config.
    """

    name: str
    channels: int
    height: int
    width: int
    usual: bool = False
    fixed: bool = False
    dynamic: bool = False
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """A vision tower.

    Attributes:
        name: the type of the whole model, whose class runs it.
        layers: its layers.
        sizes: `hidden`, `intermediate`, `heads`, `key_dim`, `pixels` (values of a patch) and `out` (features of the
            decoder).
        patches: of an image of its own size; 0 where it takes images of any size.
        kind: the type of the tower itself, where the config has one.
        taken: layers whose states the projector takes.
        unused: last layers, of which it takes none.
    """

    name: str
    layers: int
    sizes: Mapping[str, int] = field(hash=False)
    patches: int
    kind: str = ""
    taken: int = 1
    unused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestInput:
    """The largest input of a kind: the features that a decoder gets, the images that the tower runs for it, and the
    patches of each (0 for those of the tower's own size)."""

    features: int
    pieces: int
    patches: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LargestVideo:
    """The largest video of a few frames.

    Attributes:
        step: the frames that are taken together, which count as an image.
        frames: of a step.
        longest: a video of as many frames as have the most features; the step, where all have as many.
        whole: whether the limit of pixels is of the whole video, so that longer ones have no more features.
    """

    step: LargestInput
    frames: int
    longest: LargestInput
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Largest:
    """The largest inputs that a model's processor lets in.

    Attributes:
        kinds: what a prompt may have beside text: image, video, audio.
        image: the largest image; None where it cannot be counted.
        video: the largest video; None where it cannot be counted, or there is none.
        source: where the settings are from.
        default: whether they are the class's defaults, for want of a file.
    """

    kinds: tuple[str, ...]
    image: LargestInput | None
    source: str
    default: bool
    video: LargestVideo | None = None
