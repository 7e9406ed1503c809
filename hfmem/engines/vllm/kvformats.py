"""Packed formats of vLLM's KV cache: the bytes that a token takes in each of them.

Source: vLLM 0.33.0 `config/cache.py::CacheDType`, and the sizes that attention backends publish (`customize_spec`):
`v1/attention/backends/{triton_attn,flashinfer,turboquant_attn,ultraquant_attn,rocm_octave_attn}.py`,
`model_executor/layers/quantization/turboquant/config.py`, `v1/attention/ops/rocm_octave.py`,
`model_executor/layers/attention/mla_attention.py`, `utils/torch_utils.py::nvfp4_kv_cache_full_dim`. A format
is there since the first release whose `CacheDType` has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FORMATS", "CacheFormat", "format_of"]

_Sizes = Callable[[int, int], int]
_SCALE: Final = 4  # bytes of a float32 scale
_BOUNDARY: Final = 2  # attention layers at each end that keep the compute dtype (get_boundary_skip_layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFormat:
    """A packed format.

    Attributes:
        name: its name in `--kv-cache-dtype`.
        since: the first release with it.
        slot: bytes per token and KV head, from the dimensions of keys and values; None where it is for latents only.
        latent: bytes per token of a latent, from its elements; None where it is not for latents.
        vendor: the vendor of the accelerators that it runs on; "" for any.
        head_dims: the only head dimensions that it supports; empty for any.
        boundary: attention layers at each end of a model that keep the compute dtype; none in hybrids.
    """

    name: str
    since: tuple[int, int]
    slot: _Sizes | None
    latent: Callable[[int], int] | None = None
    vendor: Literal["", "amd", "nvidia"] = ""
    head_dims: tuple[int, ...] = ()
    boundary: int = 0


def _each_head(bits: int) -> tuple[_Sizes, Callable[[int], int]]:
    """Elements of so many bits, with a scale for keys and one for values of each head."""

    def slot(key: int, value: int) -> int:
        return key * bits // 8 + value * bits // 8 + 2 * _SCALE

    return slot, lambda elements: elements * bits // 8 + 2 * _SCALE


def _turbo(key_bits: int, value_bits: int) -> _Sizes:
    """Packed indices with the norm of a key, or FP8 keys; packed values with scale and zero point; an even number."""

    def slot(key: int, value: int) -> int:
        keys = key if key_bits == 8 else -(-key * key_bits // 8) + 2
        nbytes = keys + -(-value * value_bits // 8) + 4
        return nbytes + nbytes % 2

    return slot


def _fp4(key: int, value: int) -> int:
    """4-bit elements with a scale of 8 bits for 16 of them."""
    return key // 2 + key // 16 + value // 2 + value // 16


def _ultra(key: int, value: int) -> int:
    """4-bit elements with a scale of 8 bits for 32 of them."""
    return key // 2 + key // 32 + value // 2 + value // 32


def _octave(value_bits: int, *, compact: bool) -> _Sizes:
    """Keys of 3 bits, 4 in dimensions that are rotated (at most all), and 16-bit scales: one for 64 elements of a key
    and one for values."""

    def slot(key: int, value: int) -> int:
        keys, scales = (key * 3 // 8, 2) if compact else (key * 4 // 8, key // 64 + 1)
        step = 4 if compact else 8
        return -(-(keys + value * value_bits // 8 + 2 * scales) // step) * step

    return slot


def _formats() -> tuple[CacheFormat, ...]:
    eight, latent_eight = _each_head(8)
    four, latent_four = _each_head(4)
    turbo = {"k8v4": (8, 4), "4bit_nc": (4, 4), "k3v4_nc": (3, 4), "3bit_nc": (3, 3)}
    octave = {"k3v4": (4, False), "k3v3": (3, False), "k3v3_compact": (3, True)}
    return (
        CacheFormat(name="fp8_inc", since=(0, 10), slot=lambda key, value: key + value, latent=lambda each: each),
        CacheFormat(name="fp8_ds_mla", since=(0, 11), slot=None, latent=lambda _: 656, vendor="nvidia"),
        CacheFormat(name="nvfp4_ds_mla", since=(0, 30), slot=None, latent=lambda _: 352, vendor="nvidia"),
        *(
            CacheFormat(name=f"turboquant_{name}", since=(0, 20), slot=_turbo(*bits), boundary=_BOUNDARY)
            for name, bits in turbo.items()
        ),
        *(
            CacheFormat(
                name=f"octave_{name}",
                since=(0, 33),
                slot=_octave(bits, compact=compact),
                vendor="amd",
                head_dims=(256,),
            )
            for name, (bits, compact) in octave.items()
        ),
        CacheFormat(name="ultraquant_4bit", since=(0, 32), slot=_ultra, vendor="amd", boundary=_BOUNDARY),
        CacheFormat(name="int4_per_token_head", since=(0, 25), slot=four, latent=latent_four),
        CacheFormat(name="int8_per_token_head", since=(0, 20), slot=eight, latent=latent_eight),
        CacheFormat(name="fp8_per_token_head", since=(0, 20), slot=eight, latent=latent_eight),
        CacheFormat(name="nvfp4", since=(0, 20), slot=_fp4, vendor="nvidia", head_dims=(64, 128, 256, 512)),
        CacheFormat(name="nvfp4_4over6", since=(0, 28), slot=_fp4, vendor="nvidia", head_dims=(64, 128, 256, 512)),
    )


FORMATS: Final[dict[str, CacheFormat]] = {each.name: each for each in _formats()}
"""By name."""


def format_of(name: str | None) -> CacheFormat | None:
    """The packed format of a name; None for a dtype."""
    return FORMATS.get(name or "")
