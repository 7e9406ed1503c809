"""The VAE of a pipeline: encoding and decoding, whole, one by one, or in tiles by the rules of its class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from hfmem.engines.diffusers.calls import Call, Release, Taken, taken, tiles_of
from hfmem.mapper.pipelines.sizes import number
from hfmem.mapper.pipelines.values import Component

__all__ = ["Coder", "Tiles", "tiling"]

_CLAMPED: Final = ("AutoencoderKLWan", "AutoencoderKLQwenImage")
"""Classes whose `tiled_decode` clamps what it has joined."""

_OVERLAP: Final = 0.25  # of a tile, where the class names its tiles by one size


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiles:
    """Tiles of latents: their height and width, and how far apart they begin; frames of a tile, 0 for all."""

    height: int
    width: int
    down: int
    right: int
    frames: int = 0
    along: int = 0

    def divides(self, call: Call) -> bool:
        """Whether a picture is larger than a tile."""
        return call.height > self.height or call.width > self.width


def tiling(vae: Component, scale: tuple[int, int]) -> Tiles | None:
    """The tiles that a class has; None for a class without."""
    found, (spatial, temporal) = tiles_of(vae), scale
    if "tile_latent_min_size" in found:
        pixels = number(vae, "sample_size") or float(found["tile_sample_min_size"])
        edge = int(pixels / spatial)
        overlap = float(found.get("tile_overlap_factor", _OVERLAP))
        step = int(edge * (1 - overlap))
        return Tiles(height=edge, width=edge, down=step, right=step)
    if "tile_overlap_factor" in found and "tile_latent_min_height" in found:
        height, width = int(found["tile_latent_min_height"]), int(found["tile_latent_min_width"])
        kept = 1 - float(found["tile_overlap_factor"])
        return Tiles(height=height, width=width, down=int(height * kept), right=int(width * kept))
    if "tile_sample_stride_height" in found:
        frames, along = 0, 0
        if found.get("use_framewise_decoding") and "tile_sample_min_num_frames" in found:
            frames = int(found["tile_sample_min_num_frames"]) // temporal
            along = int(found["tile_sample_stride_num_frames"]) // temporal
        return Tiles(
            height=int(found["tile_sample_min_height"]) // spatial,
            width=int(found["tile_sample_min_width"]) // spatial,
            down=int(found["tile_sample_stride_height"]) // spatial,
            right=int(found["tile_sample_stride_width"]) // spatial,
            frames=frames,
            along=along,
        )
    if "tile_overlap_factor_height" in found and "tile_latent_min_height" in found:
        height, width = int(found["tile_latent_min_height"]), int(found["tile_latent_min_width"])
        return Tiles(
            height=height,
            width=width,
            down=int(height * (1 - float(found["tile_overlap_factor_height"]))),
            right=int(width * (1 - float(found["tile_overlap_factor_width"]))),
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Coder:
    """A VAE that encodes or decodes.

    Attributes:
        vae: the component.
        single: whether it runs in float32.
        method: `encode` or `decode`.
        tiles: the tiles of its class.
        tiled: whether tiles were asked for.
        sliced: whether images are decoded one by one.
        release: of diffusers; None for the one that was measured.
    """

    vae: Component
    single: bool
    method: str
    tiles: Tiles | None
    tiled: bool
    sliced: bool
    release: Release | None = None

    def taken(self, call: Call) -> Taken | None:
        """What a call takes; None for a class that is not measured."""
        if not self.sliced or call.batch == 1:
            return self._spread(call)
        one = self._spread(replace(call, batch=1))
        if one is None:
            return None
        others = call.batch - 1
        kept, inputs = one.outputs * others, one.inputs * others  # all latents are there from the start
        return replace(
            one,
            peak=one.peak + kept,
            once=one.once + kept,
            copied=one.copied + kept,
            widened=one.widened + kept,
            inputs=one.inputs + inputs,
            outputs=one.outputs * call.batch,
        )

    def _once(self, call: Call) -> Taken | None:
        return taken(self.vae, call, single=self.single, method=self.method, release=self.release)

    def _timed(self, call: Call) -> Taken | None:
        """In pieces of a few frames, where the class makes them by itself."""
        tiles = self.tiles
        if tiles is None or not tiles.frames or call.frames <= tiles.frames:
            return self._once(call)
        starts = range(0, call.frames, tiles.along)
        ends = [min(tiles.frames + 1, call.frames - start) for start in starts]
        found, whole = _gathered(self._once, [replace(call, frames=count) for count in ends]), self._once(call)
        if found is None or whole is None:
            return None
        joined = found.outputs + whole.outputs
        return replace(
            found,
            copied=max(found.copied, joined),
            widened=max(found.widened, joined),
            inputs=whole.inputs,
            outputs=whole.outputs,
        )

    def _spread(self, call: Call) -> Taken | None:
        """In tiles, where that was asked."""
        if not self.tiled or self.tiles is None or not self.tiles.divides(call):
            return self._timed(call)
        found, whole = _gathered(self._timed, list(_parts(call, self.tiles))), self._once(call)
        if found is None or whole is None:
            return None
        # the rows of tiles, and all of them, are joined while the tiles are there; some clamp the result after that
        joined = found.outputs + (3 if self.vae.class_name in _CLAMPED else 2) * whole.outputs
        return replace(
            found,
            peak=max(found.peak, joined),
            once=max(found.once, joined),
            copied=max(found.copied, joined),
            widened=max(found.widened, joined),
            inputs=whole.inputs,
            outputs=whole.outputs,
        )


def _parts(call: Call, tiles: Tiles) -> Iterator[Call]:
    for top in range(0, call.height, tiles.down):
        for left in range(0, call.width, tiles.right):
            height, width = min(tiles.height, call.height - top), min(tiles.width, call.width - left)
            yield replace(call, height=height, width=width)


def _gathered(once: Callable[[Call], Taken | None], parts: list[Call]) -> Taken | None:
    """Parts one after another, whose results are kept until all are joined."""
    kept, first = 0, None
    peak = once_copied = copied = widened = 0
    seen: dict[Call, Taken | None] = {}
    for part in parts:
        found = seen[part] if part in seen else seen.setdefault(part, once(part))
        if found is None:
            return None
        first = first or found
        peak, copied = max(peak, kept + found.peak), max(copied, kept + found.copied)
        once_copied, widened = max(once_copied, kept + found.once), max(widened, kept + found.widened)
        kept += found.outputs
    if first is None:
        return None
    return replace(
        first,
        peak=peak,
        once=once_copied,
        copied=copied,
        widened=widened,
        outputs=kept,
    )
