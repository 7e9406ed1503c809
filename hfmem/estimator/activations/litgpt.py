"""Activations of LitGPT with LoRA on a frozen base, in bf16 or NF4.

Tensors saved per layer, measured on litgpt 0.4.1 and 0.5.3 (model.py, lora.py), in bytes per token. H is the hidden
size, Q the query width (heads × head_dim), K the key/value width, F the intermediate size.

    norms       RMSNorm: a float32 copy, 4H each; LayerNorm: its input 2H, saved once as all norms read the same tensor
    attention   rotated queries and keys 2Q + 2K, the fused projection (values are a view of it) 2(Q + 2K), and the
                output 2Q. With grouped heads, keys and values are expanded to Q, and the fused projection is freed: 8Q.
                Eager attention: 6Q and, per head and position, the capped score 2, the float32 softmax 4, its copy 2
    feed-forward  gated: 6F (both projections and the activation), otherwise 2F
    adapters    a dropout mask H and its input 2H per adapted matrix (one for q, k and v together; without dropout only
                the input, once for all matrices that read it), and the tensor added to q, k and v, 2 bytes per output,
                unless all three are adapted
    NF4         the inputs of all matrices: 2H for each of two norms, 2Q (SDPA's output, transposed), 2F. The autograd
                nodes hold them as attributes, not as saved tensors, so they are freed only with the graph

Fabric converts the logits, chunks of 128 tokens, to float32. `logits` and `loss` are local variables of the training
loop, so they live through the backward pass, and with their graph through the next forward pass. The candidates for
the peak of head and loss, in bytes per token and vocabulary entry:

    heads       bf16 logits 2 except those of the last chunk, and the dequantized head if it is NF4
    float32     bf16 logits 2 and float32 logits 4
    loss        float32 logits 4, log-softmax 4, and two gradients 4 of one chunk
    backward    float32 logits 4, gradients of the bf16 logits 2, and the dequantized head if it is NF4

To the first two, the previous float32 logits 4 and the inputs of NF4 matrices are added from the second micro-batch on.
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

_SOURCE = "saved tensors of litgpt 0.4.1 and 0.5.3 (lora.py, model.py), dropout masks of one byte as on CUDA"
_PIECE = 128  # tokens per chunk of the LM head, `lm_head_chunk_size` in litgpt's finetuning scripts


class LitGpt:
    """LitGPT's own model classes, with adapters."""

    of_one_rank = False
    brings_adapters = True
    takes_adapters = False

    def activations(self, model: Model, scenario: TrainingScenario, plan: Parallel) -> TrainingActivations | Unknown:
        """Bytes on one GPU, including those of adapters."""
        del plan  # LitGPT's FSDP shards weights, not activations
        architecture, training = model.architecture, scenario.training
        hidden = architecture.hidden_size
        if architecture.layers is None or hidden is None or model.parameters is None:
            return Unknown(architecture.unknown or "the layers of the architecture are not known")
        if training.lora is None:
            return Unknown("only LoRA is supported for this stack")
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
        """Always False, as its models are decoders."""
        del model, scenario
        return False

    def linears(self, model: Model, scenario: TrainingScenario, index: int) -> tuple[Linear, ...]:
        """The matrices that each layer has the same number of."""
        del scenario
        return closed_linears(model, index)


def _logits(scenario: TrainingScenario, vocabulary: int, hidden: int, inputs: int) -> tuple[int, str]:
    """Peak bytes of head and loss, and which moment it is."""
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
    """Saved bytes per token."""

    model: Model
    scenario: TrainingScenario
    hidden: int

    @property
    def training(self) -> Training:
        """How the model is trained."""
        return self.scenario.training

    @property
    def outside(self) -> int:
        """Of the final norm, the head's input and adapters on the head."""
        final = 2 * self.hidden if self._layer_norm else 4 * self.hidden
        rows = self.model.architecture.vocab_size
        heads = (adapter.group for adapter in self._adapted if adapter.group.component == "lm_head")
        adapted = any(group.shape[0] == rows for group in heads)
        return final + (self._adapter(self.hidden) if adapted else 0) + self._new(self.head_input, shared=adapted)

    @property
    def head_input(self) -> int:
        """Of an NF4 head: its input."""
        return 2 * self.hidden if self.training.method == "qlora" else 0

    def kept(self, index: int, layer: Layer) -> int:
        """Of one layer."""
        norms = 2 * self.hidden if self._layer_norm else 4 * self.hidden * self._norms
        return norms + self._attention(layer) + _feed_forward(layer) + self._adapters(index, layer)

    def inputs(self, layer: Layer) -> int:
        """Inputs of the NF4 matrices of one layer."""
        if self.training.method != "qlora":
            return 0
        return 2 * (self.hidden * min(self._norms, 2) + widths(layer)[0] + _units(layer))

    @property
    def _layer_norm(self) -> bool:
        groups = self.model.parameters.groups if self.model.parameters else ()
        return any(group.component == "norm" and group.bias for group in groups)

    @property
    def _norms(self) -> int:
        """RMSNorms per layer over the hidden size."""
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
        """Of the adapters of a layer, with the inputs of NF4 matrices that the adapters do not already save."""
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
    """Saved bytes of padding the LoRA output to the width of the fused projection, which LitGPT skips if q, k and v are
    all adapted. With one fused matrix, q and v are adapted."""
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
