"""The mapper's results: an architecture as layers, and parameters as groups of equal tensors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, Literal, NamedTuple, TypeVar

from hfmem.mapper import roles
from hfmem.mapper.caches import Cache, Seen
from hfmem.mapper.context import Context
from hfmem.mapper.cuts import Cut, cut_of, is_output
from hfmem.mapper.expert_types import gathered_types, gathering_source
from hfmem.mapper.mixers import Mixer

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
"""The dimension in which a tensor is split: none; the second to last (`pairs`: it holds two fused matrices, each split
on its own); the last."""

Component = str
"""A part of a model. Other names are allowed; tensors with known names are assigned to those below."""

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
    "adapter",
    "other",
)
"""The known components, in the order of reports."""

_ORDER: Final = {component: number for number, component in enumerate(COMPONENTS)}


def known_component(component: Component) -> Component:
    """The component itself if known, else `other`, as which unknown ones are treated."""
    return component if component in _ORDER else "other"


def component_order(component: Component) -> tuple[int, str]:
    """Sort key of components in reports: the known ones, then all others by name."""
    return _ORDER.get(component, len(_ORDER)), component


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A dense feed-forward network.

    Attributes:
        intermediate: intermediate size.
        gated: whether it has a gate projection.
        sparse: whether only the largest activations are kept (Gemma 3n).
    """

    intermediate: int
    gated: bool
    sparse: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """A mixture of experts.

    Attributes:
        count: number of routed experts.
        per_token: experts per token.
        intermediate: intermediate size of an expert.
        shared: intermediate size of the shared experts together, which every token uses.
    """

    count: int
    per_token: int
    intermediate: int
    shared: int = 0


Ffn = Dense | Experts


_OWN_CACHE: Final = ("reformer", "minimax", "xlnet", "rwkv", "xlstm")
_SHARED_CACHE: Final = ("minimaxm2", "minimaxm3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer of the decoder (or of the encoder, for a model that has no decoder).

    Attributes:
        kind: its name in transformers' `layer_types`: `full_attention`, `sliding_attention`, …; `none` without a cache,
            `shared` if it uses another layer's cache.
        cache: its cache or state.
        heads: query heads; 0 without attention.
        ffn: its feed-forward network; None for none.
        mixer: the sizes of a mixer with a state, not compared as only some readers tell them; None for attention.
    """

    kind: str
    cache: Cache
    heads: int
    ffn: Ffn | None
    mixer: Mixer | None = field(default=None, compare=False)

    def elements(self, tokens: int, source: int = 0) -> int:
        """Cached elements of one sequence, over all dtypes."""
        return sum(part.elements for part in self.cache.parts(Seen(tokens=tokens, source=source)))


class TensorPlan(NamedTuple):
    """The parallel plans of a class; the split dimension of a tensor is `TensorGroup.along`.

    Attributes:
        name: the class, or another name of the model.
        tensors, experts: whether the class has a tp_plan, and an ep_plan.
        heads, states: whether KV heads, and channels of recurrent states, are split along with the weights; otherwise
            the cache of every rank has all of them.
        source: where this is from, with the version; "" if unknown.
    """

    name: str
    tensors: bool = False
    experts: bool = False
    heads: bool = False
    states: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Architecture:
    """The properties of a model on which memory depends. None means that the config does not determine them.

    Attributes:
        model_type: `model_type` in config.json.
        architectures: class names in config.json.
        hidden_size: hidden size.
        vocab_size: rows of the output embedding (logits per token).
        max_positions: maximum context in tokens.
        tied_embeddings: whether the head is tied to the embedding.
        attention_heads, kv_heads, head_dim, intermediate_size: of the first layer that has them.
        experts, experts_per_token: of the first layer with experts.
        layers: one value per layer; None if no reader supports the model type.
        layer_count: number of layers in the config, used if `layers` is None.
        head: `lm_head` for a language model, `none` for an encoder or embedding model without logits over a vocabulary.
        source: the tokens for cross-attention: of an `encoder`, with a length from the scenario; of a length `fixed` by
            the architecture; of `images`, none by default. None without cross-attention.
        max_source_positions: maximum encoder length; None for no limit.
        dtype: the config's run dtype (`torch_dtype` or `dtype`), as named in `hfmem.dtypes`.
        kv_dtype: KV cache dtype for which a quantised checkpoint has scales; None if it has none.
        overflows: whether its activations overflow float16.
        conv1d: whether its class uses transformers' Conv1D in place of `nn.Linear`.
        state_dtype: dtype of recurrent states that the config requests of serving engines; None for the compute dtype.
        prediction_layers: layers that predict further tokens, which serving engines may draft with.
        state_chunk: tokens that a state-space kernel handles at once; None if the config does not have it.
        tower: layers and hidden size of the vision tower, as SGLang reads them; None where the config has no tower.
        rotary_rows: rows of the cos/sin tables that engines precompute for rotary positions.
        longer_rotary_rows: the same of engines whose tables for positions of images and videos are longer.
        context: the config's maximum context, for engines with their own rules; None if it has none.
        tensor_plan: the parallel plans of its class; None if they were not looked up.
        unknown: why `layers` is None, as one sentence; "" otherwise.
        unmodelled: why memory other than weights is unknown for these layers; "" if it is known.
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
    prediction_layers: int = 0
    state_chunk: int | None = None
    tower: tuple[int, int] | None = None
    rotary_rows: int | None = None
    longer_rotary_rows: int | None = None
    context: Context | None = None
    tensor_plan: TensorPlan | None = None
    unknown: str = ""
    unmodelled: str = ""
    notes: tuple[str, ...] = ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes in its config, for software that supports only certain classes or has settings for them; no size
        of the model may depend on them."""
        return self.architectures

    @property
    def own_cache(self) -> bool:
        """Whether its class makes its cache itself, whatever `generate` is asked for (`_supports_default_dynamic_cache`
        of transformers 5.24.0's generation/utils.py)."""
        name = next(iter(self.architectures), "").lower()
        return not any(other in name for other in _SHARED_CACHE) and any(own in name for own in _OWN_CACHE)

    @property
    def gathering(self) -> str:
        """The release of transformers whose `generate` gathers the weights of selected experts on an accelerator;
        "" if its class does not."""
        return gathering_source() if self.model_type in gathered_types() else ""

    def __repr__(self) -> str:
        return f"<Architecture {self.model_type}: {self.depth} layers, hidden size {self.hidden_size}>"

    @property
    def depth(self) -> int | None:
        """The number of layers; None if unknown."""
        return self.layer_count if self.layers is None else len(self.layers)

    @property
    def layer_kinds(self) -> dict[str, int]:
        """Layers by kind, in order of first appearance."""
        return dict(Counter(layer.kind for layer in self.layers or ()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantisation:
    """How a checkpoint is quantised according to its config.

    Attributes:
        method: the quantiser's name (`quant_method`); "" if unknown.
        scheme: the number format of packed weights (`fp8`, `int4`, `nvfp4`, ...); `mixed` for several; "" if unknown.
        bits: bits per packed weight.
        symmetric: whether there are no zero points.
        reordered: whether groups are reordered by activation (`desc_act`).
        static: whether activation scales are stored.
        group: elements that share a scale; 0 where the config does not say.
    """

    method: str
    scheme: str
    bits: int
    symmetric: bool = True
    reordered: bool = False
    static: bool = False
    group: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorGroup:
    """Tensors of one role, shape and dtype.

    Attributes:
        component: the part of the model.
        role: the significant part of the name (`q_proj`, `up_proj`, `weight`), the same in every layer. Only the mapper
            parses it; others use the properties below.
        shape: shape of each tensor.
        count: number of tensors.
        dtype: the file format's name of the stored dtype (`BF16`, `Q4_K`); None if only the config is known.
        stored_bytes: bytes of all tensors in the files; None if only the config is known.
        parameters: logical parameters of all tensors, packed elements unfolded; 0 for scales, zero points and buffers.
        active: parameters that one token uses.
        loaded: whether they are loaded (buffers that the class computes itself are not).
        linear: whether they are weights of linear layers in a block or expert, which quantisers replace.
        scale: whether they are scales, zero points or indices of quantised tensors.
        kept: whether they stay in their stored dtype, independent of the run dtype.
        along: the dimension in which the class's tp_plan splits them.
        full_in: run dtypes in which the library keeps them in float32 (`_keep_in_fp32_modules`).
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
    full_in: tuple[str, ...] = ()

    @property
    def elements(self) -> int:
        """Stored elements of all tensors in the group."""
        elements = self.count
        for size in self.shape:
            elements *= size
        return elements

    @property
    def kind(self) -> tuple[Component, str, tuple[int, ...]]:
        """What its tensors have in common with others of their kind."""
        return self.component, self.role, self.shape

    @property
    def cut(self) -> Cut:
        """What limits its split over tensor-parallel ranks."""
        return cut_of(self.component, self.role)

    @property
    def module(self) -> str:
        """The name of its module, as a label for comparison."""
        return roles.module_of(self.role)

    @property
    def projects(self) -> Literal["keys", "values", ""]:
        """Whether its module makes keys or values; "" for others."""
        return roles.projects(self.role)

    @property
    def positional(self) -> bool:
        """Whether it is a table of learned positions of tokens."""
        return self.component == "embedding" and roles.is_positions(self.role)

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
        """Whether this expert matrix is a gate or up projection."""
        return roles.leads_inward(self.role)

    @property
    def reads_stream(self) -> bool:
        """Whether its module reads the residual stream."""
        return roles.reads_stream(self.role)

    @property
    def writes_stream(self) -> bool:
        """Whether its module writes to the residual stream: output and down projections."""
        return is_output(self.role)

    @property
    def packed_as(self) -> roles.Packed | None:
        """The fused matrix that serving engines build of it and others with the same input; None if it is not fused."""
        return roles.packed_as(self.role)

    @property
    def layout(self) -> roles.Layout | None:
        """The packed format that is recognisable by its names; None otherwise."""
        return roles.layout_of(self.role, self.dtype)

    @property
    def recurrent_part(self) -> roles.Recurrent:
        """Its part of a recurrent layer, as quantisers distinguish them."""
        return roles.recurrent_part(self.role)

    def in_a_layer(self, layers: int) -> TensorGroup:
        """The same tensors of so many prediction layers as tensors of layers that run."""
        component: Component = roles.component_of(self.role)
        if component == "mlp" and (self.count > 2 * max(1, layers) or len(self.shape) > 2):
            component = "experts"
        return replace(self, component=component, loaded=True)

    def as_head(self) -> TensorGroup:
        """The same tensors as an output embedding."""
        return replace(self, component="lm_head", role="lm_head")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
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
        """Logical parameters by component, without empty components. The values sum to `total`."""
        sums = _sums((group.component, group.parameters) for group in self.groups)
        return {component: sums[component] for component in sorted(sums, key=component_order) if sums[component]}

    @property
    def conv_kernel(self) -> int | None:
        """Kernel size of the convolutions in recurrent layers; None if there are none."""
        found = (group for group in self.groups if group.component == "state" and group.convolution)
        return next((group.shape[-1] for group in found if len(group.shape) == 3), None)

    @property
    def sinks(self) -> bool:
        """Whether the model has attention sinks."""
        return any(roles.is_sink(group.role) for group in self.groups)

    def positions(self, least: int) -> int | None:
        """Rows of the smallest position embedding with at least `least` rows; None without learned positions."""
        tables = [group for group in self.groups if group.positional]
        return min((group.shape[0] for group in tables if group.loaded and group.shape[0] >= least), default=None)

    @property
    def stored(self) -> dict[str, int]:
        """Stored elements by file dtype, including buffers and scales; empty without headers."""
        return _sums((group.dtype, group.elements) for group in self.groups if group.dtype is not None)


def _sums(pairs: Iterable[tuple[_K, int]]) -> dict[_K, int]:
    sums: dict[_K, int] = {}
    for key, value in pairs:
        sums[key] = sums.get(key, 0) + value
    return sums


class Implementations(NamedTuple):
    """The attention implementations that a class supports, besides eager.

    Attributes:
        name: the class.
        sdpa: whether it supports SDPA, the default implementation.
        flash: whether it supports FlashAttention kernels.
        kernels: the only flash kernels that it supports, in order of preference; empty for any.
        source: where this is from, with the version.
    """

    name: str
    sdpa: bool = True
    flash: bool = True
    kernels: tuple[str, ...] = ()
    source: str = ""
