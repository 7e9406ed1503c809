"""Weights of which no header was read: a reader derives them from config.json, and the Hub's public totals by dtype are
the same.

What files have beside the class's parameters is derived too, where nothing else gives the totals: copies of a tied
head, rotary frequencies, biases of routers that are buffers of the class, and layers that predict further tokens.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from typing import Any, Final

from hfmem.dtypes import stored_dtype
from hfmem.fetcher.values import Checkpoint
from hfmem.mapper.architecture import blueprint_of, finished
from hfmem.mapper.blueprint import Blueprint, linear, norm, weight
from hfmem.mapper.declared import as_stored
from hfmem.mapper.packing import declared_quantisation
from hfmem.mapper.sizes import model_types
from hfmem.mapper.values import Architecture, Experts, ParameterTable, TensorGroup
from hfmem.units import MIB

__all__ = ["agrees", "agrees_in_parts", "published"]

_HEADER: Final = MIB  # bytes of a file's header, and of a hundredth of its tensors: more is no header
_TOLD_BY_DTYPE: Final = (
    "fp8",
)  # quantisers that pack nothing: a parameter is an element, and its dtype tells its kind
_DEPTH: Final = "num_hidden_layers"
_BIAS: Final = "e_score_correction_bias"

_Groups = tuple[TensorGroup, ...]


def agrees(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint without its headers is known as well as with them: its class has a reader, config.json
    states no quantisation or FP8, there are as many elements of each dtype as the reader derives, and as many bytes as
    the files have, but for their headers."""
    table = published(checkpoint)
    return table is not None and _holds(checkpoint, sum(group.stored_bytes or 0 for group in table.groups))


def agrees_in_parts(checkpoint: Checkpoint) -> bool:
    """Whether its matrices are known too, as a split of them among accelerators, and what quantising some would save,
    need: where it agrees and is a language model of dense layers. How files hold experts (one by one, or fused), what
    they name a tower's parts, and what else a class keeps, totals do not tell."""
    table = published(checkpoint)
    if table is None or not agrees(checkpoint) or blueprint_of(checkpoint).architecture.head != "lm_head":
        return False
    return {group.component for group in table.groups if group.loaded} <= _DENSE


_DENSE: Final = frozenset({"embedding", "attention", "mlp", "norm", "lm_head"})


def published(checkpoint: Checkpoint) -> ParameterTable | None:
    """The weights that a config describes, in the dtypes of the Hub's public totals; None where those differ."""
    config, totals = checkpoint.config, checkpoint.totals
    if config is None or not totals or checkpoint.quantisation is not None:
        return None
    quantisation = declared_quantisation(config)
    if quantisation is not None and quantisation.method not in _TOLD_BY_DTYPE:
        return None
    blueprint = blueprint_of(checkpoint)
    if blueprint.groups is None or any(group.dtype is not None for group in blueprint.groups):
        return None
    tables = (_in_dtypes(groups, totals) for groups in _files(checkpoint, blueprint, config))
    return next(filter(None, tables), None)


def _holds(checkpoint: Checkpoint, nbytes: int) -> bool:
    """Whether the weight files have as many bytes, and those of their headers."""
    sizes = [file.size for file in checkpoint.weight_files]
    if not sizes or None in sizes:
        return False
    more = sum(size for size in sizes if size is not None) - nbytes
    return 8 * len(sizes) < more <= _HEADER * len(sizes) + nbytes // 100


def _in_dtypes(groups: _Groups, totals: Mapping[str, int]) -> ParameterTable | None:
    """The groups with the one wide dtype for what no quantisation stores, by which the elements of each dtype are those
    of the totals; None if there is none."""
    for name in totals:
        dtype = stored_dtype(name)
        if dtype is None or not dtype.is_wide_float:
            continue
        counts: Counter[str] = Counter()
        for group in groups:
            counts[group.dtype or name] += group.elements
        if counts == totals:
            return ParameterTable(groups=tuple(_stored(group, name) for group in groups))
    return None


def _stored(group: TensorGroup, name: str) -> TensorGroup:
    if group.dtype is not None and group.stored_bytes is not None:
        return group
    dtype = stored_dtype(group.dtype or name)
    nbytes = dtype.nbytes(group.elements) if dtype is not None else None
    return replace(group, dtype=group.dtype or name, stored_bytes=nbytes)


def _files(checkpoint: Checkpoint, blueprint: Blueprint, config: Mapping[str, Any]) -> Iterator[_Groups]:
    """What the files may have: the parameters of the class, and what is stored beside them."""
    stored = _as_stored(blueprint, config)
    if stored is None:
        return
    yield stored
    architecture = finished(blueprint.architecture, config, model_types(config))
    for own in _scaled(stored):
        for copies, biases, predicted in product(
            _copies(architecture, own), _biases(architecture, own), _predicted(checkpoint, architecture, own)
        ):
            yield (*own, *copies, *biases, *predicted, *(_beyond(biases, architecture) if predicted else ()))


def _scaled(stored: _Groups) -> Iterator[_Groups]:
    """The parameters, and with scales in the dtype of what is not quantised, whatever the config says."""
    yield stored
    if any(group.scale for group in stored):
        yield tuple(replace(group, dtype=None, stored_bytes=None) if group.scale else group for group in stored)


def _copies(architecture: Architecture, own: _Groups) -> Iterator[_Groups]:
    """Nothing, a copy of the embedding that is tied to the head, or the rotary frequencies of each layer, as
    transformers stored them before 4.32."""
    yield ()
    vocabulary, hidden = architecture.vocab_size, architecture.hidden_size
    if architecture.tied_embeddings and vocabulary and hidden and not any(g.component == "lm_head" for g in own):
        yield tuple(_unloaded_copy(group) for group in weight("lm_head", "lm_head", vocabulary, hidden))
    layers, size = architecture.layers or (), architecture.head_dim
    if layers and size:
        yield tuple(
            _unloaded_copy(group) for group in weight("other", "rotary_emb.inv_freq", size // 2, count=len(layers))
        )


def _unloaded_copy(group: TensorGroup) -> TensorGroup:
    return replace(group, parameters=0, active=0, loaded=False)


def _as_stored(blueprint: Blueprint, config: Mapping[str, Any]) -> _Groups | None:
    """The parameters as the quantisation stores them; None where the config does not tell how."""
    if blueprint.groups is None:
        return None
    architecture = finished(blueprint.architecture, config, model_types(config))
    stored = as_stored(ParameterTable(groups=blueprint.groups), config, architecture)
    return None if stored.unread else stored.table.groups


def _biases(architecture: Architecture, own: _Groups) -> Iterator[_Groups]:
    """None, or one for each expert of each router, where the class has them as buffers (`e_score_correction_bias`)."""
    yield ()
    mixed = [layer.ffn.count for layer in architecture.layers or () if isinstance(layer.ffn, Experts)]
    if not mixed or any(_BIAS in group.role for group in own):
        return
    (plain,) = weight("router", _BIAS, mixed[-1], count=len(mixed))
    yield (replace(plain, dtype="F32"),)
    yield (plain,)


def _predicted(checkpoint: Checkpoint, architecture: Architecture, own: _Groups) -> Iterator[_Groups]:
    """None, or the layers that predict further tokens: each is like the last layer, with a projection of two hidden
    states and three norms (DeepSeek-V3, arXiv 2412.19437, section 2.2), and perhaps copies of embedding and head."""
    yield ()
    count, hidden, vocabulary = architecture.prediction_layers, architecture.hidden_size, architecture.vocab_size
    layer = _last_layer(checkpoint, own) if count and hidden else None
    if layer is None or not hidden:
        return
    beside = [*linear("mtp", "eh_proj", hidden, 2 * hidden), *norm(hidden, count=3)]
    copies = weight("mtp", "embed_tokens", vocabulary, hidden, count=2) if vocabulary else []
    for groups in ((*layer, *beside), (*layer, *beside, *copies)):
        yield tuple(_unloaded(group, count) for group in groups)


def _last_layer(checkpoint: Checkpoint, own: _Groups) -> _Groups | None:
    """What one layer more would add; None where a config with one more cannot be read."""
    config = checkpoint.config or {}
    depth = config.get(_DEPTH)
    if type(depth) is not int:
        return None
    longer = {**config, _DEPTH: depth + 1}
    found = _as_stored(blueprint_of(replace(checkpoint, config=longer)), longer)
    if found is None:
        return None
    counts = Counter({_kind(group): group.count for group in own})
    more = ((group, group.count - counts[_kind(group)]) for group in found)
    return tuple(_times(group, count) for group, count in more if count > 0)


def _kind(group: TensorGroup) -> tuple[object, ...]:
    return group.component, group.role, group.shape, group.dtype


def _beyond(biases: _Groups, architecture: Architecture) -> _Groups:
    """The biases of the routers in layers that predict."""
    return tuple(_unloaded(_times(group, 1), architecture.prediction_layers) for group in biases)


def _times(group: TensorGroup, count: int) -> TensorGroup:
    """So many tensors of a group."""
    nbytes = None if group.stored_bytes is None else group.stored_bytes * count // group.count
    parameters, active = group.parameters * count // group.count, group.active * count // group.count
    return replace(group, count=count, stored_bytes=nbytes, parameters=parameters, active=active)


def _unloaded(group: TensorGroup, layers: int) -> TensorGroup:
    """The tensors of so many layers that predict, which transformers does not load."""
    return replace(_times(group, group.count * layers), component="mtp", active=0, loaded=False)
