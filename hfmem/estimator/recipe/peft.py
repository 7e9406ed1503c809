"""Methods of PEFT other than LoRA, one row each: what they train of a module or a model, and what they hold beside it.

`tests/oracle/peft_methods.py` asks PEFT for the trained parameters and buffers of each on 44 models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Final, Literal

__all__ = ["METHODS", "Method", "Module", "find_method"]

Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """A module that a method adapts.

    Attributes:
        inputs, outputs: in_features and out_features.
        rank: the method's rank; 0 for methods without one.
        inward: whether the method changes the module's input rather than its output (IA3's feed-forward modules).
    """

    inputs: int
    outputs: int
    rank: int
    inward: bool = False


def _none(module: Module) -> int:
    del module
    return 0


def _no_shapes(module: Module) -> Shapes:
    del module
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method of PEFT.

    Attributes:
        name: its name in `--peft`.
        title: its name in sentences.
        kind: whether it adapts modules, or puts virtual tokens before a prompt (as embeddings, as embeddings made by a
            network, or as keys and values), or trains rows of the embedding.
        trained: shapes of the trained tensors of one module; () for other kinds.
        held: elements that it holds beside them in float32, of each module.
        shared: whether `held` is one tensor for all modules, as large as the largest.
        merges: whether each forward pass makes a matrix as large as the module's, which is kept for the backward pass.
        rank: the default rank; 0 for methods without one.
        source: PEFT's file.
    """

    name: str
    title: str
    kind: Literal["modules", "prompt", "encoded prompt", "prefix", "tokens"] = "modules"
    trained: Callable[[Module], Shapes] = _no_shapes
    held: Callable[[Module], int] = _none
    shared: bool = False
    merges: bool = False
    rank: int = 0
    source: str


def _adalora(module: Module) -> Shapes:
    return (module.rank, module.inputs), (module.outputs, module.rank), (module.rank, 1)


def _boft(module: Module) -> Shapes:
    return (1, module.inputs // 4, 4, 4), (module.outputs, 1)  # blocks of 4, one butterfly factor


def _ia3(module: Module) -> Shapes:
    return (((1, module.inputs) if module.inward else (module.outputs, 1)),)


def _loha(module: Module) -> Shapes:
    return ((module.outputs, module.rank), (module.rank, module.inputs)) * 2


def _factors(size: int) -> tuple[int, int]:
    """The pair of factors with the smallest sum, the smaller first."""
    smaller = next(factor for factor in range(isqrt(size), 0, -1) if size % factor == 0)
    return smaller, size // smaller


def _lokr(module: Module) -> Shapes:
    (a, b), (c, d) = _factors(module.outputs), _factors(module.inputs)
    whole = module.rank >= max(b, d) / 2
    return ((a, c), (b, d)) if whole else ((a, c), (b, module.rank), (module.rank, d))


_BLOCK: Final = 32


def _oft(module: Module) -> Shapes:
    size = _near_divisor(module.inputs)
    return ((module.inputs // size, size * (size - 1) // 2),)


def _near_divisor(size: int) -> int:
    """The divisor of a size that is nearest to a block of 32, the smaller one of two."""
    if size <= _BLOCK:
        return size
    lower = next(number for number in range(_BLOCK, 0, -1) if size % number == 0)
    higher = next(number for number in range(_BLOCK, size + 1) if size % number == 0)
    return lower if _BLOCK - lower <= higher - _BLOCK else higher


def _vera(module: Module) -> Shapes:
    return (module.outputs,), (module.rank,)


METHODS: Final[tuple[Method, ...]] = (
    Method(name="adalora", title="AdaLoRA", trained=_adalora, rank=12, source="peft 0.21.2, tuners/adalora/layer.py"),
    Method(
        name="boft",
        title="BOFT",
        trained=_boft,
        held=lambda module: module.inputs**2,
        merges=True,
        source="peft 0.21.2, tuners/boft/layer.py: boft_P, a permutation as a matrix, of each module",
    ),
    Method(name="ia3", title="IA3", trained=_ia3, source="peft 0.21.2, tuners/ia3/layer.py"),
    Method(name="loha", title="LoHa", trained=_loha, merges=True, rank=8, source="peft 0.21.2, tuners/loha/layer.py"),
    Method(name="lokr", title="LoKr", trained=_lokr, merges=True, rank=8, source="peft 0.21.2, tuners/lokr/layer.py"),
    Method(name="oft", title="OFT", trained=_oft, source="peft 0.21.2, tuners/oft/layer.py, blocks of 32"),
    Method(
        name="vera",
        title="VeRA",
        trained=_vera,
        held=lambda module: module.rank * (module.inputs + module.outputs),
        shared=True,
        rank=256,
        source="peft 0.21.2, tuners/vera/model.py: one pair of frozen projections for all modules",
    ),
    Method(
        name="p-tuning",
        title="p-tuning",
        kind="encoded prompt",
        source="peft 0.21.2, tuners/p_tuning/model.py: an embedding and three linear modules",
    ),
    Method(
        name="prefix-tuning",
        title="prefix tuning",
        kind="prefix",
        source="peft 0.21.2, tuners/prefix_tuning/model.py: keys and values of every layer",
    ),
    Method(
        name="prompt-tuning", title="prompt tuning", kind="prompt", source="peft 0.21.2, tuners/prompt_tuning/model.py"
    ),
    Method(
        name="trainable-tokens",
        title="trainable tokens",
        kind="tokens",
        source="peft 0.21.2, tuners/trainable_tokens/layer.py: the trained rows, and the ones they replace",
    ),
)

_BY_NAME: Final = {method.name: method for method in METHODS}


def find_method(name: str | None) -> Method | None:
    """The row with a name; None for LoRA, and without a name."""
    return _BY_NAME.get(name or "")
