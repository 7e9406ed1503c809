"""The result of a family's reader, and helpers to build it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hfmem.mapper.values import Architecture, Component, ParameterTable, TensorGroup

__all__ = ["Blueprint", "embedding", "experts", "head", "linear", "norm", "router", "weight"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """A model as its config describes it.

    Attributes:
        architecture: layers and sizes.
        groups: all parameters of the class in `architectures`, tied weights once; None where the reader describes the
            layers but not all weights.
    """

    architecture: Architecture
    groups: tuple[TensorGroup, ...] | None

    @property
    def parameters(self) -> ParameterTable | None:
        """The groups as a parameter table."""
        return None if self.groups is None else ParameterTable(groups=self.groups)


def weight(component: Component, role: str, *shape: int, count: int = 1) -> list[TensorGroup]:
    """`count` tensors of one shape that are not weights of linear layers (`norm.weight`, `A_log`, a bias)."""
    return _group(component, role, shape, count, linear=False)


def linear(  # noqa: PLR0913 - a weight's facts
    component: Component, role: str, outputs: int, inputs: int, *, count: int = 1, bias: bool = False
) -> list[TensorGroup]:
    """`count` linear layers: matrices of (outputs, inputs), and their biases."""
    groups = _group(component, role, (outputs, inputs), count, linear=True)
    return groups + weight(component, f"{role}.bias", outputs, count=count) if bias else groups


def norm(size: int, *, count: int = 1, bias: bool = False, role: str = "norm") -> list[TensorGroup]:
    """`count` normalisations of `size`: RMSNorm, or LayerNorm where there is a bias."""
    groups = weight("norm", role, size, count=count)
    return groups + weight("norm", f"{role}.bias", size, count=count) if bias else groups


def embedding(rows: int, size: int, *, role: str = "embed_tokens") -> list[TensorGroup]:
    """An embedding table."""
    return weight("embedding", role, rows, size)


def head(vocab: int, hidden: int, *, tied: bool, bias: bool = False, role: str = "lm_head") -> list[TensorGroup]:
    """The output projection; a tied one only adds its bias."""
    matrix = [] if tied else weight("lm_head", role, vocab, hidden)
    return matrix + (weight("lm_head", f"{role}.bias", vocab) if bias else [])


def router(experts_: int, hidden: int, *, count: int = 1, bias: bool = False, role: str = "gate") -> list[TensorGroup]:
    """`count` routers over `experts_` experts; not marked as linear, because quantisers skip routers."""
    groups = weight("router", role, experts_, hidden, count=count)
    return groups + weight("router", f"{role}.bias", experts_, count=count) if bias else groups


def experts(role: str, count: int, per_token: int, *shape: int, layers: int = 1) -> list[TensorGroup]:
    """One matrix of `shape` per expert, with `count` experts in each of `layers` layers and `per_token` per token."""
    return [
        # min: a config may state more experts per token than there are
        replace(group, active=group.parameters * min(per_token, count) // count)
        for group in _group("experts", role, shape, count * layers, linear=True)
    ]


def _group(component: Component, role: str, shape: tuple[int, ...], count: int, *, linear: bool) -> list[TensorGroup]:
    if not count:
        return []
    elements = count
    for size in shape:
        elements *= size
    return [
        TensorGroup(
            component=component,
            role=role,
            shape=shape,
            count=count,
            dtype=None,
            stored_bytes=None,
            parameters=elements,
            active=elements,
            linear=linear,
        )
    ]
