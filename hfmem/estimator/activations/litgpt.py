"""Activations of LitGPT with adapters on a frozen base, in bf16 or NF4.

What layers keep, measured on litgpt 0.4.1 and 0.5.3 (model.py, lora.py), bytes per token: H hidden, Q query width, K
key/value width, F feed-forward units.

    norms       RMSNorm a float32 copy 4H each; LayerNorm its input 2H once, as all read the same stream
    attention   queries and keys after rotation 2Q + 2K, the fused projection that values are a view of 2(Q + 2K), and
                the output 2Q; with grouped heads keys and values are expanded to Q, and nothing fused stays: 8Q;
                explicit attention keeps 6Q and, a head and position, the capped score 2, the float32 softmax 4 and its
                copy 2
    feed-forward  6F where it is gated (both projections and the activation), else 2F
    adapters    a mask H and its input 2H for each adapted matrix (one for q, k and v together; without dropout the
                input alone, once for all that read it), and what is added to q, k and v, 2 B per output, unless all
                three are adapted
    NF4         the inputs of all matrices: 2H for each of two norms, 2Q (SDPA's output in another order), 2F. They
                hang on the graph itself, not on its saved tensors, and go with the graph

Fabric turns the logits, pieces of 128 tokens, into float32, and `logits` and `loss` are variables of the training
loop: they stay through the backward pass, and through the next forward pass with the graph that they belong to. So
the moments of head and loss are, a token and vocabulary entry:

    heads       bf16 logits 2 but for the last piece's, with the head unpacked if it is NF4
    float32     bf16 logits 2 and float32 ones 4
    loss        float32 logits 4, log-softmax 4, and two gradients 4 of one piece
    backward    float32 logits 4, gradients of the bf16 logits 2, with the head unpacked if it is NF4

and in the first two, from the second micro-batch on, the previous float32 logits 4 and inputs of NF4 matrices.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from hfmem.estimator.activations.closed_forms import closed_linears, widths
from hfmem.estimator.activations.source import Linear, TrainingActivations
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.values import Training, TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.lora import Adapter, adapters
from hfmem.mapper.values import Dense, Experts, Layer
from hfmem.unknown import Unknown

__all__ = ["LitGpt"]

_SOURCE = "saved tensors of litgpt 0.4.1 and 0.5.3 (lora.py, model.py), masks of one byte as CUDA keeps them"
_PIECE = 128


class LitGpt:
    """LitGPT's own classes, with adapters."""

    of_one_rank = False
    brings_adapters = True
    takes_adapters = False

    def activations(self, model: Model, scenario: TrainingScenario, plan: Parallel) -> TrainingActivations | Unknown:
        """The bytes of one GPU, adapters included."""
        del plan  # it shards weights only
        architecture, training = model.architecture, scenario.training
        hidden = architecture.hidden_size
        if architecture.layers is None or hidden is None or model.parameters is None:
            return Unknown(architecture.unknown or "the layers of the architecture are not known")
        if training.lora is None:
            return Unknown("only adapters are described for this stack")
        tokens, vocabulary = scenario.batch * scenario.seq, architecture.vocab_size or 0
        sizes = _Sizes(model, scenario, hidden)
        saved = [tokens * sizes.kept(index, layer) for index, layer in enumerate(architecture.layers)]
        inputs = tokens * (sum(sizes.inputs(layer) for layer in architecture.layers) + sizes.head_input)
        logits, how = _logits(scenario, vocabulary, hidden, inputs)
        whole = training.checkpointing == "full"
        again = 2 * tokens * hidden if whole else 0
        transient = [tokens * (4 * _units(layer) + 4 * vocabulary) for layer in architecture.layers]
        return TrainingActivations(
            outside=tokens * sizes.outside,
            layers=tuple(again if whole else size for size in saved),
            logits=logits,
            backward=tuple(again + size + more for size, more in zip(saved, transient, strict=True)),
            certainty="measured",
            how=f"{tokens:,} tokens × what each of {len(saved)} layers saves; {how}",
            source=_SOURCE,
        )

    def counts_encoder(self, model: Model, scenario: TrainingScenario) -> bool:
        """Never: its models are decoders."""
        del model, scenario
        return False

    def linears(self, model: Model, scenario: TrainingScenario, index: int) -> tuple[Linear, ...]:
        """The matrices of which every layer has as many."""
        del scenario
        return closed_linears(model, index)


def _logits(scenario: TrainingScenario, vocabulary: int, hidden: int, inputs: int) -> tuple[int, str]:
    """Bytes of head and loss at their highest moment, and which it is."""
    training, tokens = scenario.training, scenario.batch * scenario.seq
    piece = scenario.batch * min(_PIECE, scenario.seq)
    last = scenario.batch * ((scenario.seq - 1) % _PIECE + 1)
    unpacked = training.stack.unpacked * vocabulary * hidden if training.method == "qlora" else 0
    before = 4 * vocabulary * tokens + inputs if training.stack.previous else 0
    moments = {
        "heads": before + 2 * vocabulary * (tokens - last) + unpacked,
        "float32 logits": before + 6 * vocabulary * tokens,
        "loss": 8 * vocabulary * (tokens + piece),
        "backward of the head": 6 * vocabulary * tokens + unpacked,
    }
    name = max(moments, key=lambda moment: moments[moment])
    return moments[name], f"{tokens:,} tokens × {vocabulary:,} entries are most at: {name}"


@dataclass(frozen=True)
class _Sizes:
    """Bytes per token."""

    model: Model
    scenario: TrainingScenario
    hidden: int

    @property
    def training(self) -> Training:
        """How the model is trained."""
        return self.scenario.training

    @property
    def outside(self) -> int:
        """The last norm and the head's input; adapters of the head."""
        final = 2 * self.hidden if self._layer_norm else 4 * self.hidden
        rows = self.model.architecture.vocab_size
        heads = (adapter.group for adapter in self._adapted if adapter.group.component == "lm_head")
        adapted = any(group.shape[0] == rows for group in heads)
        return final + (self._adapter(self.hidden) if adapted else 0) + self._new(self.head_input, shared=adapted)

    @property
    def head_input(self) -> int:
        """What an NF4 head keeps."""
        return 2 * self.hidden if self.training.method == "qlora" else 0

    def kept(self, index: int, layer: Layer) -> int:
        """By one layer."""
        norms = 2 * self.hidden if self._layer_norm else 4 * self.hidden * self._norms
        return norms + self._attention(layer) + _feed_forward(layer) + self._adapters(index, layer)

    def inputs(self, layer: Layer) -> int:
        """By the NF4 matrices of one layer."""
        if self.training.method != "qlora":
            return 0
        return 2 * (self.hidden * min(self._norms, 2) + widths(layer)[0] + _units(layer))

    @property
    def _layer_norm(self) -> bool:
        groups = self.model.parameters.groups if self.model.parameters else ()
        return any(group.component == "norm" and group.bias for group in groups)

    @property
    def _norms(self) -> int:
        """Of a layer."""
        parameters, layers = self.model.parameters, self.model.architecture.layers
        groups = parameters.groups if parameters else ()
        found = [group for group in groups if group.component == "norm" and group.shape == (self.hidden,)]
        return sum(group.count for group in found if not group.bias) // len(layers or (1,))

    def _attention(self, layer: Layer) -> int:
        query, keys = widths(layer)
        if self.scenario.attention == "eager":
            return 6 * query + 8 * layer.heads * self.scenario.seq
        if keys < query:
            return 8 * query
        return 2 * query + 2 * keys + 2 * (query + 2 * keys) + 2 * query

    @cached_property
    def _adapted(self) -> tuple[Adapter, ...]:
        lora = self.training.lora
        return () if lora is None else adapters(self.model, lora.targets)

    def _adapters(self, index: int, layer: Layer) -> int:
        """What the adapters of a layer keep, and the inputs of NF4 matrices that they do not keep already."""
        modules = {adapter.module for adapter in self._adapted}
        adapted = [linear for linear in closed_linears(self.model, index) if linear.module in modules]
        inwards = [linear for linear in adapted if linear.shares_input_with == 0]
        others = [linear for linear in adapted if linear.shares_input_with != 0]
        if self._dropout:
            own = sum(self._adapter(linear.inputs) for linear in (*inwards[:1], *others))
            return own + _added(inwards, layer) + self.inputs(layer)
        read = {linear.shares_input_with: linear.inputs for linear in adapted}
        return _added(inwards, layer) + max(2 * sum(read.values()), self.inputs(layer))

    def _adapter(self, width: int) -> int:
        return (3 if self._dropout else 2) * width

    def _new(self, nbytes: int, *, shared: bool) -> int:
        return 0 if shared and not self._dropout else nbytes

    @property
    def _dropout(self) -> bool:
        return self.training.lora is not None and self.training.lora.dropout > 0


def _added(inwards: list[Linear], layer: Layer) -> int:
    """What is added to the fused projection, unless all of it is adapted; one fused matrix is adapted for q and v."""
    if len(inwards) == 1 and inwards[0].outputs > widths(layer)[0]:
        return 2 * sum(widths(layer))
    return 2 * sum(linear.outputs for linear in inwards) if len(inwards) < 3 else 0


def _units(layer: Layer) -> int:
    if isinstance(layer.ffn, Dense):
        return layer.ffn.intermediate
    return layer.ffn.per_token * layer.ffn.intermediate if isinstance(layer.ffn, Experts) else 0


def _feed_forward(layer: Layer) -> int:
    plain = isinstance(layer.ffn, Dense) and not layer.ffn.gated
    return (2 if plain else 6) * _units(layer)
