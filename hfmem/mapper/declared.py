"""The contents of the files according to the config: parameters as stored under its `quantization_config`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from hfmem.dtypes import stored_dtype
from hfmem.mapper.packing import declared_quantisation, quantisation_of
from hfmem.mapper.values import Architecture, Experts, ParameterTable, TensorGroup

if TYPE_CHECKING:
    from hfmem.mapper.module_names import Names
    from hfmem.mapper.packed_modules import Rule
    from hfmem.mapper.schemes import Scheme

__all__ = ["Stored", "as_stored"]


class Stored(NamedTuple):
    """Parameters as a quantisation stores them.

    Attributes:
        table: the parameters; unchanged without a quantisation, or if its layout is unknown.
        unread: parts of the quantisation config that are not understood, and ignored.
    """

    table: ParameterTable
    unread: tuple[str, ...] = ()


def as_stored(described: ParameterTable, config: Mapping[str, Any], architecture: Architecture) -> Stored:
    """The parameters that a config describes, as stored under its quantisation."""
    own, found = declared_quantisation(config), quantisation_of(config)
    if own is None:
        return Stored(table=described)
    from hfmem.mapper.module_names import Names  # for quantised checkpoints only
    from hfmem.mapper.packed_modules import reading_of

    inner = found.get("quantization")
    facts = {**found, **inner} if isinstance(inner, Mapping) else found
    reading = reading_of(own.method, own.bits, facts, config)
    if not reading.rules:
        return Stored(table=described, unread=(str(facts.get("quant_algo") or own.method or "the quantisation"),))
    names = Names(architecture, beside=_dense_beside(described, architecture))
    groups: list[TensorGroup] = []
    for group in described.groups:
        groups += _applied(group, reading.rules, names)
    unread = {**reading.unread, **names.unread}
    if facts.get("lm_head") is True and not any(group.component == "lm_head" for group in described.groups):
        unread["lm_head of a model whose head is its embedding"] = None
    return Stored(table=ParameterTable(groups=tuple(groups)), unread=tuple(unread))


def _applied(group: TensorGroup, rules: Sequence[Rule], names: Names) -> Iterator[TensorGroup]:
    """A group under the rules: in each layer the first matching rule applies; layers without one stay unquantised."""
    layers = names.layers(group)
    open_, left, stays = layers, group, 0
    for rule in rules:
        about = rule.layers(group, names) & open_
        open_ -= about
        # a group may have several tensors per layer (experts), so the rule's share of layers is one of tensors
        count = min(left.count - stays, round(group.count * len(about) / len(layers)))
        if rule.scheme is None:
            stays += count
        elif count:
            yield from _packed(_part(left, count), rule.scheme)
            left = _part(left, left.count - count)
        if not open_:
            break
    if left.count:
        yield left


def _part(group: TensorGroup, count: int) -> TensorGroup:
    if count == group.count:
        return group
    return replace(
        group,
        count=count,
        parameters=group.parameters * count // group.count,
        active=group.active * count // group.count,
    )


def _packed(group: TensorGroup, scheme: Scheme) -> Iterator[TensorGroup]:
    for number, (suffix, dtype, shape) in enumerate(scheme(group.shape)):
        first = number == 0
        found = stored_dtype(dtype)
        stored = replace(
            group,
            role=group.role + suffix,
            shape=shape,
            dtype=dtype,
            parameters=group.parameters if first else 0,
            active=group.active if first else 0,
            linear=group.linear and first and not suffix,
            scale=not first,
        )
        yield replace(stored, stored_bytes=found.nbytes(stored.elements) if found else None)


def _dense_beside(described: ParameterTable, architecture: Architecture) -> bool:
    """Whether each layer has both a dense network and experts, so that the experts are not under `mlp`."""
    layers = architecture.layers or ()
    mixed = bool(layers) and all(isinstance(layer.ffn, Experts) for layer in layers)
    return mixed and any(group.component == "mlp" for group in described.groups)
