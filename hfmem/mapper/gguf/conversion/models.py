"""Models of the GGUF files that llama.cpp's tools make of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import prod
from typing import Final

from hfmem.fetcher.values import TensorInfo
from hfmem.mapper.gguf.conversion.convert import USUAL, conversion_of
from hfmem.mapper.gguf.conversion.tensors import TOWERS
from hfmem.mapper.gguf.quantisation import QUANTISATIONS
from hfmem.mapper.interpret import Model, Quantisable, interpret
from hfmem.refusals.options import UnknownWordError
from hfmem.units import format_bytes
from hfmem.unknown import Unknown

__all__ = ["converted", "quantised"]

_TOOLS: Final = "convert_hf_to_gguf and llama-quantize"


def converted(model: Model) -> Model:
    """The model as a GGUF file of the quantisation that its reference names, else of the usual one; with the reason
    where that is not known.

    Raises:
        UnknownWordError: llama-quantize makes no such file of it.
    """
    found = conversion_of(model.checkpoint, model.architecture)
    if isinstance(found, Unknown):
        return replace(model, unconverted=found.reason)
    asked = model.checkpoint.ref.quant
    own = quantised(model, found, asked or USUAL)
    if own is None:
        made = tuple(choice.quant for choice in found.choices())
        raise UnknownWordError("--quant", asked or USUAL, made or tuple(QUANTISATIONS))
    return own


def quantised(model: Model, conversion: Quantisable, word: str) -> Model | None:
    """The model of one quantisation; None where llama-quantize does not make it.

    Args:
        model: of the checkpoint that is converted.
        conversion: of it.
        word: the quantisation.
    """
    checkpoint = conversion.quantised(word)
    if checkpoint is None:
        return None
    of = model.checkpoint.quantised_of
    told = f"the tensors of {of or model.checkpoint.ref.model_id}, as {_TOOLS} name and quantise them"
    found = interpret(replace(checkpoint, notes=()))
    note = (
        f"The files of {checkpoint.ref.model_id} were not read: this is what {_TOOLS} make of {of}."
        if of
        else f"This file is still to be made: {_TOOLS} would make it of {checkpoint.ref.model_id}."
    )
    beside = () if of else _tower(model.checkpoint.tensors)
    return replace(
        found,
        certainty="derived",
        source=told,
        resized=told,
        notes=(note, *beside, *model.checkpoint.notes, *found.notes),
        conversion=conversion,
        made=not of,
    )


def _tower(tensors: Iterable[TensorInfo]) -> tuple[str, ...]:
    """A sentence on the tower for images or sound, which the file leaves out: matrices in 16 bits, vectors in 32."""
    nbytes = sum(
        prod(tensor.shape) * (2 if len(tensor.shape) > 1 else 4) for tensor in tensors if TOWERS.search(tensor.name)
    )
    if not nbytes:
        return ()
    return (
        f"Its tower for images or sound would be a file of its own (convert_hf_to_gguf --mmproj), of some "
        f"{format_bytes(nbytes)}, which is not counted: --mmproj FILE counts one.",
    )
