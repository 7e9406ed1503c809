"""A GGUF checkpoint as an architecture and its parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any, Final

from hfmem.errors import quoted
from hfmem.fetcher.values import Checkpoint, TensorInfo
from hfmem.mapper.gguf.keys import InvalidKeyError, Keys, MissingKeyError
from hfmem.mapper.gguf.layers import Plan, blocks_of, layers, plan_of
from hfmem.mapper.gguf.names import meaning, split
from hfmem.mapper.gguf.rows import ROWS, Row
from hfmem.mapper.values import Architecture, Component, Dense, Experts, Layer, ParameterTable, TensorGroup

__all__ = ["architecture_of", "table_of"]

_UNMODELLED: Final = "GGUF files are modelled as llama.cpp runs them: use --runtime llamacpp"


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """The architecture described by the metadata of the first file; with unknown layers where it is incomplete."""
    keys = Keys(_metadata(checkpoint))
    row = ROWS.get(keys.architecture, Row())
    if reason := _refusal(keys, row):
        return _unknown(keys, reason)
    try:
        return _known(keys, row, checkpoint.tensors)
    except MissingKeyError as error:
        return _unknown(keys, f"the GGUF lacks '{error.key}'")
    except InvalidKeyError as error:
        return _unknown(keys, f"in the GGUF, '{error.key}' is {quoted(error.value)}")


def _refusal(keys: Keys, row: Row) -> str:
    """Why the layers cannot be described; "" where they can."""
    if not keys.architecture:
        return "the GGUF has no general.architecture"
    if keys.architecture not in ROWS:
        return f"the llama.cpp architecture '{keys.architecture}' is not known here"
    if row.form == "tower":
        return "it is an image or audio tower (mmproj), which runs together with a language model"
    return f"'{keys.architecture}' decodes audio codes and has no KV cache" if row.form == "audio" else ""


def _metadata(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """The metadata; of a model split into several files, only the first one has it."""
    names = [file.name for file in checkpoint.weight_files] or list(checkpoint.metadata)
    found = (checkpoint.metadata.get(name, {}) for name in names)
    return next((values for values in found if "general.architecture" in values), {})


def _unknown(keys: Keys, reason: str) -> Architecture:
    return Architecture(
        model_type=keys.architecture or None,
        hidden_size=_size(keys, "embedding_length"),
        max_positions=_size(keys, "context_length"),
        layer_count=_size(keys, "block_count"),
        unknown=reason,
    )


def _size(keys: Keys, key: str) -> int | None:
    try:
        return keys.optional(key)
    except InvalidKeyError:
        return None


def _known(keys: Keys, row: Row, tensors: Sequence[TensorInfo]) -> Architecture:
    plan = plan_of(keys, row)
    shapes = {tensor.name: tensor.shape for tensor in tensors if not tensor.name.startswith("blk.")}
    found = layers(keys, row, plan, blocks_of(tensors))
    dense = next((layer.ffn for layer in found if isinstance(layer.ffn, Dense)), None)
    mixed = next((layer.ffn for layer in found if isinstance(layer.ffn, Experts)), None)
    first = dense or mixed
    attends = next((index for index in range(plan.count) if plan.kv_heads[index] and not plan.recurrent[index]), None)
    attends = 0 if attends is None and row.states in ("none", "beside") else attends
    rows = shapes.get("token_embd.weight") or (None,)
    return Architecture(
        model_type=keys.architecture,
        hidden_size=plan.hidden,
        vocab_size=rows[0],
        max_positions=keys.optional("context_length"),
        tied_embeddings="output.weight" not in shapes,
        attention_heads=None if attends is None else plan.heads[attends],
        kv_heads=None if attends is None else _kv_heads(keys, plan, attends),
        head_dim=None if attends is None else keys.optional("attention.key_length_mla") or plan.key[0],
        intermediate_size=None if first is None else first.intermediate,
        experts=None if mixed is None else mixed.count,
        experts_per_token=None if mixed is None else mixed.per_token,
        layers=found,
        head="none" if row.form == "encoder" else "lm_head",
        source="encoder" if row.form == "encoder_decoder" else None,
        max_source_positions=keys.optional("context_length") if row.form == "encoder_decoder" else None,
        unmodelled=_UNMODELLED,
    )


def _kv_heads(keys: Keys, plan: Plan, index: int) -> int:
    """KV heads of a layer. MLA expands its latent to one key and value per query head, while the file states one."""
    return plan.heads[index] if keys.optional("attention.key_length_mla") else plan.kv_heads[index]


_Key = tuple[Component, str, tuple[int, ...], str, bool, bool, bool]


def table_of(tensors: Iterable[TensorInfo], architecture: Architecture) -> ParameterTable:
    """The parameters in the files. Layers beyond the architecture's layer count are next-token prediction layers
    (`mtp`), which llama.cpp does not load."""
    own = architecture.layers or ()
    experts, used = architecture.experts, architecture.experts_per_token
    share = (min(used, experts), experts) if experts and used else (1, 1)
    counted: dict[_Key, list[int]] = {}
    for sort, (count, nbytes) in _alike(tensors, own).items():
        sums = counted.setdefault(_key(*sort), [0, 0])
        sums[0] += count
        sums[1] += nbytes
    return ParameterTable(groups=tuple(_group(key, sums[0], sums[1], share) for key, sums in counted.items()))


_Sort = tuple[str, str, tuple[int, ...], bool, bool]


def _alike(tensors: Iterable[TensorInfo], own: tuple[Layer, ...]) -> dict[_Sort, list[int]]:
    """Tensors grouped over layers and experts. The key is name, dtype, shape, whether the layer is an MTP layer, and
    whether it has only a recurrent state; the value is how many tensors there are, and their bytes."""
    depth = len(own) or None
    stateful = {index for index, layer in enumerate(own) if layer.kind in ("linear_attention", "conv")}
    sorts: dict[_Sort, list[int]] = {}
    for tensor in tensors:
        index, name = split(tensor.name)
        beyond = depth is not None and index is not None and index >= depth
        sums = sorts.setdefault((name, tensor.dtype, tensor.shape, beyond, index in stateful), [0, 0])
        sums[0] += 1
        sums[1] += tensor.nbytes
    return sorts


def _key(name: str, dtype: str, shape: tuple[int, ...], beyond: bool, recurrent: bool) -> _Key:
    found = meaning(name, recurrent)
    component = "mtp" if beyond else found.component
    matrix = found.matrix and len(shape) in (2, 3)
    return component, found.role, shape, dtype, component != "mtp", matrix, found.table


def _group(key: _Key, count: int, nbytes: int, share: tuple[int, int]) -> TensorGroup:
    component, role, shape, dtype, loaded, matrix, table = key
    parameters = 0 if table else count * prod(shape)
    used, of = share if component == "experts" else (1, 1)
    return TensorGroup(
        component=component,
        role=role,
        shape=shape,
        count=count,
        dtype=dtype,
        stored_bytes=nbytes,
        parameters=parameters,
        active=parameters * used // of if loaded else 0,
        loaded=loaded,
        linear=matrix,
        kept=True,
    )
