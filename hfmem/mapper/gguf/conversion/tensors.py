"""The tensors of a checkpoint as convert_hf_to_gguf stores them: names, shapes, and formats before any quantisation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from hfmem.fetcher.values import TensorInfo
from hfmem.mapper.facts import Facts
from hfmem.mapper.gguf.conversion.dialects import Dialect
from hfmem.mapper.gguf.conversion.keys import head_size, rope
from hfmem.mapper.gguf.conversion.names import gguf_name
from hfmem.mapper.gguf.quantisation import Shaped

__all__ = ["UnconvertedError", "shaped"]


class UnconvertedError(Exception):
    """A tensor that llama.cpp's architecture does not know by its name, or whose packing is not undone here.

    Attributes:
        name: in the checkpoint.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


TOWERS: Final = re.compile(
    r"^(mlp|vit\.|vpm\.|siglip2\.|conformer\.|merger\.|resampler\.)|visual\.|vision\.|audio\.|talker\.|vision_|audio_|"
    r"token2wav\.|code2wav\.|projector\.|image_newline|view_seperator|patch_embed|patch_merger\.|model\.connector\."
)
"""What belongs to towers, which have a file of their own (`TextModel.filter_tensors`)."""
_UNUSED: Final = (
    *(".attention.masked_bias", ".attention.bias", ".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"),
    *("_scale_inv", ".weight_scale", ".input_scale", ".activation_scale", "_proj_scales"),
)
"""Tables, and the scales of weights in 8 bits, which are turned into 16."""
_PACKED: Final = (".qweight", ".weight_packed", ".qzeros", ".weight_scale_2", ".absmax", ".SCB")
_EXPERT: Final = re.compile(r"\.experts\.\d{1,6}\.")
_FUSED: Final = re.compile(r"^(.*\.experts\.)(gate_up_proj|down_proj)(?:\.weight|_blocks)?$")
_LAYER: Final = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,6})\.")
_FULL: Final = re.compile(
    r"(_norm\.weight|ffn_gate_inp(_shexp)?\.weight|ssm_conv1d(_[qkv])?\.weight|shortconv\.conv\.weight|"
    r"indexer\.proj\.weight)$|^(position_embd|token_types)\.weight$"
)
"""What stays in float32 besides vectors and what is no weight (`ModelBase.prepare_tensors`)."""
_FP4_PACK: Final = 32  # elements of a block of MXFP4, whose bytes are the last two sizes


def shaped(tensors: Iterable[TensorInfo], facts: Facts, dialect: Dialect, layers: int) -> tuple[Shaped, ...]:
    """The tensors of the file, with 16 bits for its matrices.

    Args:
        tensors: of the checkpoint.
        facts: of the text model's config.
        dialect: of its class.
        layers: those without further predictions.

    Raises:
        UnconvertedError: one has no place in the file, or is packed.
    """
    found: dict[str, Shaped] = {}
    for name, shape, dtype in _split(_stacked(_kept(tensors, dialect, layers)), dialect):
        for changed, size in dialect.change(facts, (name, shape)):
            own = gguf_name(dialect.architecture, changed)
            if own is None:
                raise UnconvertedError(name)
            found[own] = Shaped(own, dtype if dtype == "MXFP4" else _format(own, size), size)
    if dialect.headless or (facts.flag("tie_word_embeddings") and dialect.drops_tied):
        found.pop("output.weight", None)
    for name, length in _tables(facts, dialect):
        found[name] = Shaped(name, "F32", (length,))
    return tuple(found.values())


def _kept(tensors: Iterable[TensorInfo], dialect: Dialect, layers: int) -> Iterator[tuple[str, TensorInfo]]:
    """What the file of the text model has, by the name that counts."""
    for tensor in tensors:
        name = tensor.name.replace("language_model.", "").replace("text_model.", "")
        name = name.replace("e_score_correction_bias", "e_score_correction.bias")
        if name.endswith(_PACKED):
            raise UnconvertedError(tensor.name)
        if name.endswith(_UNUSED) or TOWERS.search(name):
            continue
        renamed = _predicting(name, layers)
        layer = _LAYER.search(renamed)
        if dialect.further or (renamed == name and (layer is None or int(layer[1]) < layers)):
            yield renamed, tensor


_MTP: Final = re.compile(r"^(?:model\.)?mtp\.(?:layers\.(\d{1,6})\.(.+)|(\w+)\.(\w+))$")
_MTP_NAMES: Final = {
    "fc": "eh_proj",
    "pre_fc_norm_embedding": "enorm",
    "pre_fc_norm_hidden": "hnorm",
    "norm": "shared_head.norm",
}


def _predicting(name: str, layers: int) -> str:
    """The name of a tensor for further predictions: a layer after the others (`_QwenMtpMixin`)."""
    match = _MTP.match(name)
    if match is None:
        return name
    if match[1] is not None:
        return f"model.layers.{layers + int(match[1])}.{match[2]}"
    return f"model.layers.{layers}.{_MTP_NAMES.get(match[3], match[3])}.{match[4]}"


_Stored = tuple[str, tuple[int, ...], str]


def _stacked(tensors: Iterable[tuple[str, TensorInfo]]) -> Iterator[_Stored]:
    """The tensors, those of a layer's experts as one."""
    stacks: dict[str, tuple[int, TensorInfo]] = {}
    for name, tensor in tensors:
        if "experts." in name and (match := _EXPERT.search(name)):
            alike = f"{name[: match.start()]}.experts.{name[match.end() :]}"
            count, first = stacks.get(alike, (0, tensor))
            stacks[alike] = (count + 1, first)
        else:
            yield name, tensor.shape, tensor.dtype
    for name, (count, tensor) in stacks.items():
        yield name, (count, *tensor.shape), tensor.dtype


def _split(tensors: Iterable[_Stored], dialect: Dialect) -> Iterator[_Stored]:
    """The tensors, fused experts as llama.cpp has them: apart, the inner size before the outer."""
    for name, shape, dtype in tensors:
        match = _FUSED.match(name)
        if match is None or len(shape) < 3:
            yield name, shape, dtype
            continue
        count, outer, inner = shape[:3]
        packed = name.endswith("_blocks")
        if packed:
            inner *= _FP4_PACK
        elif dialect.stacks_fused:
            outer, inner = inner, outer
        kind = "MXFP4" if packed else dtype
        if match[2] == "down_proj" or dialect.keeps_fused:
            yield f"{match[1]}{match[2]}.weight", (count, outer, inner), kind
        else:
            for part in ("gate", "up"):
                yield f"{match[1]}{part}_proj.weight", (count, outer // 2, inner), kind


def _format(name: str, shape: tuple[int, ...]) -> str:
    full = len(shape) < 2 or not name.endswith(".weight") or _FULL.search(name)
    return "F32" if full else "F16"


def _tables(facts: Facts, dialect: Dialect) -> Iterator[tuple[str, int]]:
    """Tables of rotary positions (`generate_extra_tensors`)."""
    turned = rope(facts)
    kind = turned.text("rope_type", "type") or ""
    if dialect.frequencies and kind.lower() == "llama3":
        yield "rope_freqs.weight", head_size(facts) // 2
    if dialect.architecture == "phi3" and (factors := turned.items("long_factor")):
        yield "rope_factors_long.weight", len(factors)
        yield "rope_factors_short.weight", len(turned.items("short_factor") or ())
    if dialect.architecture == "gemma4":
        yield "rope_freqs.weight", facts.integer("global_head_dim") // 2
