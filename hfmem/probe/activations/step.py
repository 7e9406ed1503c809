"""Runs one step of a model under the tracer: a training step, or a prefill."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import torch
from torch.utils._pytree import tree_iter

from hfmem.probe.activations.flash import fused_attention
from hfmem.probe.activations.tracer import Allocation, Segment, Tracer

__all__ = ["PAST", "LinearUse", "Mode", "Timeline", "find_encoder", "find_layers", "run"]

PAST = "past_input_ids"
"""Key in a step's inputs for the tokens whose cache it continues from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """How a step is run.

    Attributes:
        attention: `sdpa`, `eager` or `flash`.
        precision: `bf16` or `fp32` for weights and arithmetic, `autocast` for bfloat16 arithmetic on float32 weights.
        method: `full` training; a `frozen` base whose embedding output requires a gradient (LoRA); `prefill`, the
            forward pass of a prompt with a cache and logits of the last position; `forward`, with logits of all
            positions; `chunk`, like `prefill` for a later chunk of a prompt with cached tokens; `decode`, one token.
        checkpointing: whether to use gradient checkpointing.
    """

    attention: Literal["sdpa", "eager", "flash"] = "sdpa"
    precision: Literal["bf16", "fp32", "autocast"] = "bf16"
    method: Literal["full", "frozen", "prefill", "forward", "chunk", "decode"] = "full"
    checkpointing: bool = False

    @property
    def trains(self) -> bool:
        """Whether there is a backward pass."""
        return self.method in ("full", "frozen")

    @property
    def continues(self) -> bool:
        """Whether it continues from a cache."""
        return self.method in ("chunk", "decode")

    def __str__(self) -> str:
        return f"{self.attention}/{self.precision}/{self.method}{'+gc' if self.checkpointing else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearUse:
    """A linear module of a layer, as used in a forward pass.

    Attributes:
        name: its name within the layer.
        inputs, outputs: its input and output features.
        source: number of the storage of its input.
    """

    name: str
    inputs: int
    outputs: int
    source: int | None


@dataclass(slots=True, kw_only=True)
class Timeline:
    """What a step allocated and freed.

    Attributes:
        allocations, events: from the tracer.
        given: storages of weights, buffers and inputs.
        kept: storages alive after the forward pass, without given ones and without unreferenced logits.
        cache: storages of the KV cache that a prefill returns.
        gradients: storages of parameter gradients, including that of a tied head until the embedding's is added.
        optimizer: storages of optimizer states.
        steady: number of events before the step that counts (a first step creates the optimizer states).
        depth: number of layer calls.
        inputs: the storage of each layer's input (and, at `depth`, of the head's).
        linears: linear modules by layer number.
        returned: storages of what each layer returns beside its hidden states (attention weights).
        encoder: the storage of the input of each layer of an encoder, counted from the last one, and of what leaves
            it, at -1. Its linear modules are with those of the layers, at the same numbers, below -1.
        reached: with a frozen base, the number of events where the backward pass of the encoder's last layer reaches
            the input of its last linear module, and the storage of its gradient.
    """

    allocations: Sequence[Allocation]
    events: Sequence[tuple[bool, int, Segment]]
    given: frozenset[int] = frozenset()
    kept: frozenset[int] = frozenset()
    cache: frozenset[int] = frozenset()
    gradients: frozenset[int] = frozenset()
    optimizer: frozenset[int] = frozenset()
    steady: int = 0
    depth: int = 0
    inputs: dict[int, int] = field(default_factory=dict)
    linears: dict[int, list[LinearUse]] = field(default_factory=dict)
    returned: dict[int, frozenset[int]] = field(default_factory=dict)
    encoder: dict[int, int] = field(default_factory=dict)
    reached: tuple[int, int | None] | None = None


def find_encoder(model: Any, layers: Sequence[Any]) -> list[Any]:
    """The layer modules of the encoder beside a decoder with these layers, in order; none where it has no list."""
    encoder, own = model.get_encoder(), {id(layer) for layer in layers}
    lists = [
        (name.count("."), list(module))
        for name, module in encoder.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) > 1
    ]
    found = min(lists, key=lambda item: item[0], default=(0, []))[1]
    return [] if own & {id(layer) for layer in found} else found


def find_layers(model: Any, depth: int) -> list[Any]:
    """The layer modules of the decoder, in order.

    Raises:
        LookupError: there is no `ModuleList` of this length.
    """
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth
    ]
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else None
    inside = {id(module) for module in decoder.modules()} if isinstance(decoder, torch.nn.Module) else set()
    lists.sort(key=lambda item: (id(item[1]) not in inside, item[0].count("."), "encoder" in item[0]))
    if not lists:
        raise LookupError(f"no list of {depth} layers")
    return list(lists[0][1])


def run(  # noqa: PLR0913 - the parts of a step
    model: Any,
    layers: Sequence[Any],
    inputs: dict[str, Any],
    mode: Mode,
    optimizer: Any = None,
    *,
    encoder: Sequence[Any] = (),
    sums_in_place: bool = False,
) -> Timeline:
    """The timeline of one step. The model must already have the precision and attention of `mode`; in training, the
    layers of its `encoder` are parts of their own; `sums_in_place` is passed to `Tracer`.

    With an optimizer, the step includes the optimizer's and runs twice: the first creates the states, the second is
    representative of all later ones.
    """
    tracer = Tracer(sums_in_place=sums_in_place)
    hooks = _Hooks(tracer, layers, mode, encoder if mode.trains else ())
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(fused_attention())
        stack.enter_context(_prepared(model, mode))
        stack.enter_context(hooks)
        stack.enter_context(tracer)
        given = tracer.give([*model.parameters(), *model.buffers(), *_tensors(inputs)])
        tracer.segment = ("before", 0)
        if not mode.trains:
            return _infer(model, inputs, mode, tracer, hooks, given)
        if optimizer is None:
            return _train(model, inputs, mode, tracer, hooks, given)
        _train(model, inputs, mode, tracer, hooks, given, optimizer)
        hooks.restart()
        return _train(model, inputs, mode, tracer, hooks, given, optimizer)


def _train(  # noqa: PLR0913, PLR0917 - the parts of a step
    model: Any,
    inputs: dict[str, Any],
    mode: Mode,
    tracer: Tracer,
    hooks: _Hooks,
    given: frozenset[int],
    optimizer: Any = None,
) -> Timeline:
    labels, steady = next(iter(inputs.values())), len(tracer.events)
    states = _numbers(tracer, list(optimizer.state.values())) if optimizer is not None else frozenset()
    with torch.autocast("cpu", torch.bfloat16, enabled=mode.precision == "autocast"):
        loss = model(**inputs, **_labels(model, labels), **_no_cache(model)).loss
    kept = frozenset(tracer.live()) - given - states
    hooks.backward = True
    loss.backward()
    gradients = _numbers(tracer, [parameter.grad for parameter in model.parameters()]) | _waiting(model, tracer)
    if optimizer is not None:
        tracer.segment = ("optimizer", 0)
        optimizer.step()
    model.zero_grad(set_to_none=True)
    return Timeline(
        allocations=tracer.allocations,
        events=tracer.events,
        given=given,
        kept=kept,
        gradients=gradients,
        optimizer=states,
        steady=steady,
        depth=hooks.calls,
        inputs=hooks.inputs,
        linears=hooks.linears,
        returned=hooks.returned,
        encoder=hooks.encoder,
        reached=hooks.reached,
    )


def _waiting(model: Any, tracer: Tracer) -> frozenset[int]:
    """The gradient of tied weights from the head. It lives until the end of the backward pass, where it is added to the
    embedding's; of an encoder-decoder's, to those of both embeddings, one after the other."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if not hasattr(embedding, "weight") or getattr(head, "weight", None) is not embedding.weight:
        return frozenset()
    weight: Any = embedding.weight
    live: set[int] = set()
    for allocated, number, segment in tracer.events:
        if segment[0] == "after":
            break
        (live.add if allocated else live.discard)(number)
    nbytes, made = weight.numel() * weight.element_size(), tracer.allocations
    found = {n for n in live if made[n].segment[0] == "head" and made[n].nbytes == nbytes}
    if any(one.segment[0] == "encoder" for one in made):
        shape = tuple(weight.shape)
        found |= {n for n, one in enumerate(made) if one.segment[0] == "after" and one.shape == shape}
    return frozenset(found) if weight.requires_grad else frozenset()


def _infer(  # noqa: PLR0913, PLR0917 - the parts of a step
    model: Any, inputs: dict[str, Any], mode: Mode, tracer: Tracer, hooks: _Hooks, given: frozenset[int]
) -> Timeline:
    parameters = inspect.signature(model.forward).parameters
    more: dict[str, Any] = {"use_cache": True} if "use_cache" in parameters or "kwargs" in parameters else {}
    if mode.method != "forward" and "logits_to_keep" in parameters:
        more["logits_to_keep"] = 1
    inputs, started, old = dict(inputs), 0, frozenset[int]()
    with torch.no_grad():
        if past := {"input_ids": inputs.pop(PAST)} if PAST in inputs else {}:
            more["cache"] = _held(model(**past, **more))
            old = _cached(more["cache"], tracer)
            started = len(tracer.events)
            hooks.restart()
        output = model(**inputs, **more)
    before = [(True, number, tracer.allocations[number].segment) for number in sorted(old)]
    return Timeline(
        allocations=tracer.allocations,
        events=[*before, *tracer.events[started:]],
        given=given,
        cache=(_cached(_held(output), tracer) | old) - given,
        depth=hooks.calls,
        inputs=hooks.inputs,
    )


def _held(output: Any) -> Any:
    """The KV cache or recurrent states in a model's output."""
    return output.get("past_key_values", None) or output.get("cache_params", None) or output.get("state", None)


def _cached(held: Any, tracer: Tracer) -> frozenset[int]:
    """The storages of a cache object."""
    return frozenset(number for tensor in _reachable(held, set()) if (number := tracer.number(tensor)) is not None)


def _labels(model: Any, labels: Any) -> dict[str, Any]:
    return {"labels": labels} if "labels" in inspect.signature(model.forward).parameters else {}


def _no_cache(model: Any) -> dict[str, Any]:
    parameters = inspect.signature(model.forward).parameters
    return {"use_cache": False} if "use_cache" in parameters else {}


@contextmanager
def _prepared(model: Any, mode: Mode) -> Iterator[None]:
    """A context with the model in train or eval mode, frozen and with gradient checkpointing by `mode`; both are reset
    afterwards."""
    model.train(mode.trains)
    hooks: list[Any] = []
    if mode.method == "frozen":
        model.requires_grad_(False)
        hooks = [
            module.register_forward_hook(lambda _m, _a, out: out.requires_grad_(True)) for module in _inward(model)
        ]
    if mode.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    try:
        yield
    finally:
        if mode.checkpointing:
            model.gradient_checkpointing_disable()
        for hook in hooks:
            hook.remove()
        if hooks:
            model.requires_grad_(True)


def _require_gradient(_module: Any, _inputs: Any, output: Any) -> None:
    output.requires_grad_(True)


def _inward(model: Any) -> list[Any]:
    """The modules that embed tokens, of which encoder and decoder may each have one with shared weights, and the
    convolution that an encoder of sound begins with (its `get_input_embeddings`)."""
    embedding = model.get_input_embeddings()
    weight = getattr(embedding, "weight", None)
    alike = [module for module in model.modules() if module is not embedding and isinstance(module, type(embedding))]
    sound = [module for module in model.modules() if isinstance(module, torch.nn.Conv1d)]
    heard = sound[:1] if getattr(model, "main_input_name", "") == "input_features" else []
    return [embedding, *(module for module in alike if getattr(module, "weight", None) is weight), *heard]


_LAST_OF_ENCODER: Final = -2
"""The number of the encoder's last layer among linear modules."""


class _Hooks:
    """Hooks that tell the tracer which layer is running, in the forward and backward pass.

    Attributes:
        backward: whether the backward pass has begun (layer calls are recomputations from then on).
        calls: number of layer calls in the forward pass.
        inputs: the storage of each call's input, and of the head's.
        linears: linear modules by the number of the call.
        returned: storages of what a call returns beside its hidden states.
        encoder, reached: as in `Timeline`.
    """

    def __init__(self, tracer: Tracer, layers: Sequence[Any], mode: Mode, encoder: Sequence[Any] = ()) -> None:
        self._tracer, self._layers, self._mode, self._encoder = tracer, layers, mode, encoder
        self._handles: list[Any] = []
        self.backward = False
        self.calls = 0
        self.inputs: dict[int, int] = {}
        self.linears: dict[int, list[LinearUse]] = {}
        self.returned: dict[int, frozenset[int]] = {}
        self.encoder: dict[int, int] = {}
        self.reached: tuple[int, int | None] | None = None
        self._input: torch.Tensor | None = None

    def restart(self) -> None:
        """Reset for another step."""
        self.backward, self.calls = False, 0
        self.inputs, self.linears, self.returned, self.encoder = {}, {}, {}, {}
        self._tracer.segment = ("before", 0)

    def __enter__(self) -> _Hooks:
        for layer in dict.fromkeys(self._layers):
            self._handles.append(layer.register_forward_pre_hook(self._before, with_kwargs=True))
            self._handles.append(layer.register_forward_hook(self._after))
            self._listen(layer)
        for number, layer in enumerate(reversed(self._encoder)):
            self._handles.append(layer.register_forward_pre_hook(self._reading(number), with_kwargs=True))
            self._handles.append(layer.register_forward_hook(self._read(number)))
            self._listen(layer, _LAST_OF_ENCODER - number)
        return self

    def _listen(self, layer: Any, number: int | None = None) -> None:
        """Watch the linear modules of a layer, where they are asked for."""
        if self._mode.method != "frozen":
            return
        for name, module in layer.named_modules():
            if not isinstance(module, torch.nn.Linear) and type(module).__name__ != "Conv1D":
                continue
            if not self._mode.checkpointing:
                self._handles.append(module.register_forward_pre_hook(self._linear(name, number)))
            if number == _LAST_OF_ENCODER:
                self._handles.append(module.register_forward_pre_hook(self._given))

    def _given(self, _module: Any, args: Any) -> None:
        """A hook before each linear module of the encoder's last layer."""
        if not self.backward and args:
            self._input = args[0]

    def _reach(self, gradient: torch.Tensor) -> None:
        self.reached = (len(self._tracer.events), self._tracer.number(gradient))

    def _reading(self, number: int) -> Any:
        """A hook before a layer of the encoder."""

        def before(_module: Any, args: Any, kwargs: Any) -> None:
            if self.backward:
                return
            hidden = next((tensor for tensor in _tensors((args, kwargs)) if tensor.is_floating_point()), None)
            storage = None if hidden is None else self._tracer.number(hidden)
            if hidden is not None and storage is not None:
                self.encoder[number] = storage
                if number == len(self._encoder) - 1 and hidden.requires_grad:
                    hidden.register_hook(self._entering(("after", 0)))
            self._tracer.segment = ("encoder", number)

        return before

    def _read(self, number: int) -> Any:
        """A hook after a layer of the encoder."""

        def after(_module: Any, _args: Any, output: Any) -> None:
            if self.backward:
                return
            hidden = next((tensor for tensor in _tensors(output) if tensor.is_floating_point()), None)
            storage = None if hidden is None else self._tracer.number(hidden)
            if hidden is not None and storage is not None:
                self.encoder[number - 1] = storage
                if hidden.requires_grad:
                    hidden.register_hook(self._entering(("decoded", number)))
            if number == 0 and self._input is not None and self._input.requires_grad:
                self._input.register_hook(self._reach)
            self._input = None
            self._tracer.segment = ("before", 0)

        return after

    def __exit__(self, *exception: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def _before(self, _module: Any, args: Any, kwargs: Any) -> None:
        if self.backward:
            return
        if self.calls == 0:
            hidden = next((tensor for tensor in _tensors((args, kwargs)) if tensor.is_floating_point()), None)
            self._lead(hidden)
            if hidden is not None and hidden.requires_grad:
                hidden.register_hook(self._entering(("after", 0)))
        self._tracer.segment = ("forward", self.calls)

    def _after(self, _module: Any, _args: Any, output: Any) -> None:
        if self.backward:
            return
        number = self.calls
        self.calls += 1
        if self.calls == len(self._layers):
            self._tracer.segment = ("head", 0)
        hidden, *others = [tensor for tensor in _tensors(output) if tensor.is_floating_point()] or [None]
        self._lead(hidden)
        self.returned[number] = _numbers(self._tracer, others) - _numbers(self._tracer, hidden)
        if hidden is not None and hidden.requires_grad:
            hidden.register_hook(self._entering(("backward", number)))

    def _lead(self, hidden: Any) -> None:
        """Record the input of the next layer."""
        number = None if hidden is None else self._tracer.number(hidden)
        if number is not None:
            self.inputs[self.calls] = number

    def _entering(self, segment: Segment) -> Any:
        def enter(_gradient: Any) -> None:
            self._tracer.segment = segment

        return enter

    def _linear(self, name: str, number: int | None = None) -> Any:
        def before(module: Any, args: Any) -> None:
            if self.backward or not args:
                return
            outputs, inputs = tuple(module.weight.shape)
            if type(module).__name__ == "Conv1D":
                outputs, inputs = inputs, outputs
            use = LinearUse(name=name, inputs=inputs, outputs=outputs, source=self._tracer.number(args[0]))
            self.linears.setdefault(self.calls if number is None else number, []).append(use)

        return before


def _numbers(tracer: Tracer, value: Any) -> frozenset[int]:
    """The numbers of the storages of all tensors in a nested value."""
    return frozenset(number for tensor in _tensors(value) if (number := tracer.number(tensor)) is not None)


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    return (tensor for tensor in tree_iter(value) if isinstance(tensor, torch.Tensor))


def _reachable(value: Any, seen: set[int]) -> Iterator[torch.Tensor]:
    """All tensors reachable from a cache object."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _reachable(item, seen)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _reachable(item, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, torch.nn.Module | type) and id(value) not in seen:
        seen.add(id(value))
        yield from _reachable(vars(value), seen)
