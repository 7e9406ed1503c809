"""What the mapper returns: an architecture as layers, and the parameters as groups of equal tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

from hfmem.mapper import roles
from hfmem.mapper.caches import Cache, Seen
from hfmem.mapper.context import Context
from hfmem.mapper.cuts import Cut, cut_of

__all__ = [
    "COMPONENTS",
    "Along",
    "Architecture",
    "Certainty",
    "Component",
    "Cut",
    "Dense",
    "Experts",
    "Ffn",
    "Implementations",
    "Layer",
    "ParameterTable",
    "Quantisation",
    "Source",
    "TensorGroup",
    "TensorPlan",
    "component_order",
    "known_component",
]

_K = TypeVar("_K")

Source = Literal["encoder", "fixed", "images"]

Certainty = Literal["exact", "derived", "measured", "typical", "unknown"]

Along = Literal["whole", "rows", "pairs", "columns"]
"""The dimension in which a tensor is cut: none, the last but one (of two matrices in it, `pairs`, each), the last."""

Component = str
"""A part of a model. The names are open: those below are what tensors of known names are sorted into."""

COMPONENTS: Final[tuple[Component, ...]] = (
    "embedding",
    "attention",
    "mlp",
    "router",
    "experts",
    "shared_experts",
    "norm",
    "state",
    "lm_head",
    "vision",
    "audio",
    "projector",
    "mtp",
    "other",
)
"""The known components, in the order reports show them."""

_ORDER: Final = {component: number for number, component in enumerate(COMPONENTS)}


def known_component(component: Component) -> Component:
    """The component itself where it is a known one; `other`, which the rest is treated as, where it is not."""
    return component if component in _ORDER else "other"


def component_order(component: Component) -> tuple[int, str]:
    """Sorts components as reports show them: the known ones, then all others by name."""
    return _ORDER.get(component, len(_ORDER)), component


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A feed-forward network of `intermediate` units; `gated` ones have a second input projection, `sparse` ones let
    the strongest units alone through (Gemma 3n)."""

    intermediate: int
    gated: bool
    sparse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts: `per_token` of `count` are used a token, each of `intermediate` units, besides `shared`
    units that every token uses."""

    count: int
    per_token: int
    intermediate: int
    shared: int = 0


Ffn = Dense | Experts


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of the decoder (or of the encoder, for a model that has no decoder).

    Attributes:
        kind: transformers' word for it in `layer_types`: `full_attention`, `sliding_attention`, …; `none` where nothing
            is kept, `shared` where another layer's cache is read.
        cache: what it keeps.
        heads: query heads; 0 where there is no attention.
        ffn: its feed-forward network; None where there is none.
    """

    kind: str
    cache: Cache
    heads: int
    ffn: Ffn | None

    def elements(self, tokens: int, source: int = 0) -> int:
        """Elements kept of one sequence, of whatever dtype."""
        return sum(part.elements for part in self.cache.parts(Seen(tokens=tokens, source=source)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorPlan:
    """What the plan of a class says of a split over ranks; which dimension of a tensor is cut is `TensorGroup.along`.

    Attributes:
        name: the class, or what else the model is called by.
        tensors, experts: whether there is a plan for tensor-parallel ranks, and one for ranks that share experts.
        heads, states: whether the heads of keys and values, and the channels of states, are shared with the matrices;
            else each rank keeps those of all.
        source: where this is from, with the version; "" where nothing is known.
    """

    name: str
    tensors: bool = False
    experts: bool = False
    heads: bool = False
    states: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The facts of a model that memory depends on. None means that the configuration does not tell.

    Attributes:
        model_type: the `model_type` of config.json.
        architectures: the class names of config.json.
        hidden_size: width of the residual stream.
        vocab_size: rows of the output embedding (logits a token).
        max_positions: longest context the model is made for, in tokens.
        tied_embeddings: whether the head shares the embedding's weights.
        attention_heads, kv_heads, head_dim, intermediate_size: of the first layer that has them.
        experts, experts_per_token: of the first layer that has experts.
        layers: one value a layer; None where no reader knows the model type.
        layer_count: how many layers the configuration names, for when `layers` is None.
        head: `lm_head` for a language model, `none` for an encoder or embedding model without logits over a vocabulary.
        source: what else the decoder attends to: an `encoder`'s tokens, as many as the scenario says; as many as the
            architecture fixes (`fixed`); those of `images`, none unless the scenario says so. None for nothing.
        max_source_positions: longest sequence of the encoder's tokens; None where nothing limits it.
        dtype: the configuration's own run dtype (`torch_dtype` or `dtype`), as `hfmem.dtypes` names it.
        kv_dtype: the dtype of the cache that a quantised checkpoint brings scales for; None where it brings none.
        overflows: whether float16 is too narrow for what it computes.
        conv1d: whether the linear layers of its class are transformers' Conv1D, which is no `nn.Linear`.
        state_dtype: the dtype of recurrent states that the configuration asks of serving engines; None where it does
            not, and they take the compute dtype.
        rotary_rows: rows of the tables of sines and cosines that engines build, where positions are rotary.
        context: what the configuration says of the longest context, for engines with a rule of their own; None where
            it says nothing.
        tensor_plan: how the class is cut over ranks; None where nobody has looked.
        unknown: why `layers` is None: one sentence, "" otherwise.
        unmodelled: why nothing here can tell what a run of these layers takes beside its weights; "" where it can.
        notes: remarks for the reader.
    """

    model_type: str | None
    architectures: tuple[str, ...] = ()
    hidden_size: int | None = None
    vocab_size: int | None = None
    max_positions: int | None = None
    tied_embeddings: bool | None = None
    attention_heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    intermediate_size: int | None = None
    experts: int | None = None
    experts_per_token: int | None = None
    layers: tuple[Layer, ...] | None = None
    layer_count: int | None = None
    head: Literal["lm_head", "none"] | None = None
    source: Source | None = None
    max_source_positions: int | None = None
    dtype: str | None = None
    kv_dtype: str | None = None
    overflows: bool = False
    conv1d: bool = False
    state_dtype: str | None = None
    rotary_rows: int | None = None
    context: Context | None = None
    tensor_plan: TensorPlan | None = None
    unknown: str = ""
    unmodelled: str = ""
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that its configuration names, for software that has a list of those that it runs: no size and no
        formula follows from them."""
        return self.architectures

    def __repr__(self) -> str:
        return f"<Architecture {self.model_type}: {self.depth} layers, hidden size {self.hidden_size}>"

    @property
    def depth(self) -> int | None:
        """The number of layers; None where it is not known."""
        return self.layer_count if self.layers is None else len(self.layers)

    @property
    def layer_kinds(self) -> dict[str, int]:
        """Layers by kind, in order of first appearance."""
        return dict(Counter(layer.kind for layer in self.layers or ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """How a checkpoint is quantised, as its configuration says.

    Attributes:
        method: the quantiser's name (`quant_method`); "" where nothing tells.
        scheme: the number format of what it packs (`fp8`, `int4`, `nvfp4`, ...), `mixed` for several; "" unknown.
        bits: bits a packed weight has.
        symmetric: whether it needs no zero points.
        reordered: whether inputs are reordered by activation, in groups.
        static: whether it keeps scales of activations.
    """

    method: str
    scheme: str
    bits: int
    symmetric: bool = True
    reordered: bool = False
    static: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorGroup:
    """Tensors of one role, shape and dtype.

    Attributes:
        component: the part of the model they belong to.
        role: the last telling word of the name (`q_proj`, `up_proj`, `weight`), the same in every layer. What follows
            from it is a property; nothing but the mapper looks into it.
        shape: of each.
        count: how many tensors.
        dtype: the file's name of the stored format (`BF16`, `Q4_K`); None where only the configuration is known.
        stored_bytes: bytes of all of them in the files; None where only the configuration is known.
        parameters: logical parameters of all of them: packed elements unfolded; 0 for scales, zero points and buffers.
        active: parameters that one token uses.
        loaded: whether a run keeps them in memory (buffers that the class computes itself are not).
        linear: whether they are the weight matrix of a linear layer of a block or expert, which quantisers replace.
        scale: whether they are scales, zero points or indices of quantised tensors.
        kept: whether a run keeps them in the format they are stored in, whatever it computes in.
        along: the dimension in which the plan of the class cuts them over tensor-parallel ranks.
    """

    component: Component
    role: str
    shape: tuple[int, ...]
    count: int
    dtype: str | None
    stored_bytes: int | None
    parameters: int
    active: int
    loaded: bool = True
    linear: bool = False
    scale: bool = False
    kept: bool = False
    along: Along = "whole"

    @property
    def elements(self) -> int:
        """Stored elements of all tensors of the group."""
        elements = self.count
        for size in self.shape:
            elements *= size
        return elements

    @property
    def cut(self) -> Cut:
        """What decides its part on a tensor-parallel rank."""
        return cut_of(self.component, self.role)

    @property
    def module(self) -> str:
        """The module it belongs to: a label to compare with others."""
        return roles.module_of(self.role)

    @property
    def bias(self) -> bool:
        """Whether it is a bias."""
        return roles.is_bias(self.role)

    @property
    def convolution(self) -> bool:
        """Whether it belongs to a convolution."""
        return roles.is_convolution(self.role)

    @property
    def inward(self) -> bool:
        """Whether this matrix of experts leads from the hidden size to their units."""
        return roles.leads_inward(self.role)

    @property
    def reads_stream(self) -> bool:
        """Whether its module reads the residual stream."""
        return roles.reads_stream(self.role)

    @property
    def packed_as(self) -> roles.Packed | None:
        """Which matrix serving engines make of it and of the others that read the same input; None: it stays alone."""
        return roles.packed_as(self.role)

    @property
    def layout(self) -> roles.Layout | None:
        """The packed format that its tensors are known to have; None for all others."""
        return roles.layout_of(self.role, self.dtype)

    @property
    def recurrent_part(self) -> roles.Recurrent:
        """What it does in a layer with a state, as far as quantisers treat that apart."""
        return roles.recurrent_part(self.role)

    def as_head(self) -> TensorGroup:
        """Tensors like these as an output embedding."""
        return replace(self, component="lm_head", role="lm_head")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterTable:
    """All parameters. Totals are sums over the groups, never stored."""

    groups: tuple[TensorGroup, ...]

    def __repr__(self) -> str:
        return f"<ParameterTable {self.total:,} parameters in {len(self.groups):,} groups>"

    @property
    def total(self) -> int:
        """Logical parameters, tied weights once."""
        return sum(group.parameters for group in self.groups)

    @property
    def active(self) -> int:
        """Logical parameters that one token uses."""
        return sum(group.active for group in self.groups)

    @property
    def by_component(self) -> dict[Component, int]:
        """Logical parameters by component; components without any are left out. The values sum to `total`."""
        sums = _sums((group.component, group.parameters) for group in self.groups)
        return {component: sums[component] for component in sorted(sums, key=component_order) if sums[component]}

    @property
    def conv_kernel(self) -> int | None:
        """Width of the convolutions of layers with a state; None where there are none."""
        found = (group for group in self.groups if group.component == "state" and group.convolution)
        return next((group.shape[-1] for group in found if len(group.shape) == 3), None)

    @property
    def sinks(self) -> bool:
        """Whether heads of attention have sinks."""
        return any(roles.is_sink(group.role) for group in self.groups)

    def positions(self, least: int) -> int | None:
        """Rows of the smallest table of positions that has so many at least; None where positions are computed."""
        tables = [group for group in self.groups if group.component == "embedding" and roles.is_positions(group.role)]
        return min((group.shape[0] for group in tables if group.loaded and group.shape[0] >= least), default=None)

    @property
    def stored(self) -> dict[str, int]:
        """Stored elements by the dtype that the files name, buffers and scales included; empty without headers."""
        return _sums((group.dtype, group.elements) for group in self.groups if group.dtype is not None)


def _sums(pairs: Iterable[tuple[_K, int]]) -> dict[_K, int]:
    sums: dict[_K, int] = {}
    for key, value in pairs:
        sums[key] = sums.get(key, 0) + value
    return sums


@dataclass(frozen=True, slots=True, kw_only=True)
class Implementations:
    """What the class of a type can run besides the arithmetic written out.

    Attributes:
        name: the class.
        sdpa: whether it has PyTorch's fused attention, which runs where nobody names an implementation.
        flash: whether it takes kernels of FlashAttention's kind.
        kernels: the only ones that it takes, the first that is built for a device before the others; empty for any.
        source: where this is from, with the version.
    """

    name: str
    sdpa: bool = True
    flash: bool = True
    kernels: tuple[str, ...] = ()
    source: str = ""
