"""Activations of a training step from coefficients measured on the real classes: of the layers, outside of the layers,
and of the loss.

A checkpointed layer saves its input, and recomputes the rest in its backward pass while that input stays alive.
"""

from __future__ import annotations

from collections.abc import Mapping

from hfmem.estimator.activations.coefficients import LinearUse, Part
from hfmem.estimator.activations.measured import Measured, measured
from hfmem.estimator.activations.polynomials import Polynomial
from hfmem.estimator.activations.source import Linear, TrainingActivations, TrainingEncoder
from hfmem.estimator.parallel import Parallel
from hfmem.estimator.recipe.values import Training, TrainingScenario
from hfmem.mapper.interpret import Model
from hfmem.unknown import Unknown

__all__ = ["MeasuredClasses"]


class MeasuredClasses:
    """The classes of transformers, by measured coefficients."""

    of_one_rank = False
    brings_adapters = False
    takes_adapters = True

    def activations(self, model: Model, scenario: TrainingScenario, plan: Parallel) -> TrainingActivations | Unknown:
        """Bytes of the unsplit layers, or why they are unknown."""
        del plan  # the caller divides the bytes of whole layers over ranks
        found = _measured(model, scenario)
        if isinstance(found, Unknown):
            return found
        training, order = scenario.training, found.applied.structure.order
        parts = [_layer(found, number, training) for number in range(found.head)]
        begun = [_begun(found, number, training) for number in range(found.head)]
        around = [_around_attention(found, number, training) for number in range(found.head)]
        head = found.applied.reduced[found.head] if _speaks(model) else found.applied.headed(_outputs(model))
        logits, logits_gradients = _highest(found, head, found.head, training, Polynomial({}))
        return TrainingActivations(
            outside=_value(found, _before(found, training), order[0], training),
            layers=tuple(parts[number][0] for number in order),
            logits=logits,
            backward=tuple(parts[number][1] for number in order),
            begun=tuple(begun[number] for number in order),
            before_attending=tuple(around[number][0] for number in order),
            attending=tuple(around[number][1] for number in order),
            forward=tuple(_forward(found, number, training) for number in order),
            logits_gradients=logits_gradients,
            normed=_normed(found, training),
            backward_gradients=tuple(parts[number][2] for number in order),
            encoder=_encoder(found, training),
            certainty=found.applied.certainty,
            how=_how(found, training),
            source=found.applied.source,
        )

    def counts_encoder(self, model: Model, scenario: TrainingScenario) -> bool:
        """Whether the coefficients depend on encoder tokens; with checkpointing, also those of the encoder's layers,
        which it recomputes."""
        found = _measured(model, scenario)
        if isinstance(found, Unknown) or not found.applied.knows("source"):
            return False
        recomputed = scenario.training.checkpointing == "full"
        return not recomputed or found.applied.encoder(recomputed=True) is not None

    def linears(self, model: Model, scenario: TrainingScenario, index: int) -> tuple[Linear, ...] | None:
        """The linear modules that the measured layer ran, in execution order."""
        found = _measured(model, scenario)
        if isinstance(found, Unknown):
            return None
        number = found.applied.structure.order[index]
        sizes = found.applied.structure.sizes[number]
        return tuple(_linear(use, sizes) for use in found.applied.linears(number))


def _linear(use: LinearUse, sizes: Mapping[str, int]) -> Linear:
    return Linear(
        module=use.module,
        inputs=use.inputs.at(sizes),
        outputs=use.outputs.at(sizes),
        shares_input_with=use.source,
        input_saved=use.kept,
    )


def _measured(model: Model, scenario: TrainingScenario) -> Measured | Unknown:
    training = scenario.training
    if training.stack.residual:
        return Unknown("the stack keeps the residual stream in a dtype that was not measured")
    precision = "bf16"
    if training.precision.compute == "float32":
        precision = "fp32"
    elif training.precision.autocast and training.precision.weights == "float32" and not training.fsdp:
        precision = "autocast"  # FSDP gathers its units in the compute dtype
    return measured(model, scenario, "full" if training.method == "full" else "frozen", precision)


def _layer(found: Measured, number: int, training: Training) -> tuple[int, int, int]:
    """Bytes that a layer saves, and at the peak of its backward: activations, and gradients of its parameters."""
    part = found.applied.reduced[number]
    kept = part.kept
    if training.checkpointing == "full" and part.input is not None:
        kept = part.input
    elif training.checkpointing == "selective":
        kept = kept - kept.quadratic()  # only the attention scores are recomputed
    nbytes, gradients = _highest(found, part, number, training, _beside(part, training))
    again = max(_repeated(found, number, training))
    if again > nbytes + gradients:
        nbytes, gradients = again, 0
    return _value(found, kept, number, training), nbytes, gradients


def _forward(found: Measured, number: int, training: Training) -> int:
    """Bytes at the peak of a layer's forward pass, if they can be more than those of its backward pass, which repeats
    it with gradient checkpointing."""
    part = found.applied.reduced[number]
    moments = part.first if training.checkpointing == "full" else part.forward
    return max((_value(found, each.activations, number, training) for each in moments), default=0)


def _repeated(found: Measured, number: int, training: Training) -> tuple[int, int]:
    """Bytes at the peak of the forward pass that gradient checkpointing repeats, beside the gradient of its output,
    which has the shape of its input: in moments without attention scores, and in those with them; 0 for neither."""
    part = found.applied.reduced[number]
    if training.checkpointing != "full" or part.input is None:
        return 0, 0
    plain = attending = 0
    for moment in part.forward:
        nbytes = _value(found, moment.activations + part.input, number, training)
        if moment.activations.quadratic() == Polynomial({}):
            plain = max(plain, nbytes)
        else:
            attending = max(attending, nbytes)
    return plain, attending


def _beside(part: Part, training: Training) -> Polynomial:
    """What is alive beside the moments of a layer's backward: its input, if checkpointing saves it alone."""
    if training.checkpointing == "full" and part.input is not None and not part.input_kept:
        return part.input
    return Polynomial({})


def _around_attention(found: Measured, number: int, training: Training) -> tuple[int, int]:
    """Bytes of activations at the peak of a layer's backward before it reaches attention scores that it has saved, and
    from there on, where the adapters of modules behind them save nothing; all are before if it has saved none. A
    repeated forward pass has saved nothing behind its scores either."""
    part = found.applied.reduced[number]
    beside, scores = _beside(part, training), part.kept.quadratic()
    before, after = _repeated(found, number, training)
    for moment in part.moments:
        nbytes = _value(found, moment.activations + beside, number, training)
        if moment.activations.quadratic() == scores:
            before = max(before, nbytes)
        else:
            after = max(after, nbytes)
    return before, after


def _before(found: Measured, training: Training) -> Polynomial:
    """Bytes saved outside the layers.

    Frozen layers were measured with an embedding output that requires a gradient, and is therefore saved. With adapters
    alone it does not require one and is subtracted. With gradient checkpointing it does, but is the same tensor as the
    saved input of the first layer, and is subtracted for that reason.
    """
    before, first = found.applied.before, found.applied.reduced[found.applied.structure.order[0]]
    if training.checkpointing == "full":
        before = found.applied.recomputed
    if training.method == "full":
        return before
    heard = found.applied.encoder(recomputed=training.checkpointing == "full")
    before = before - heard.ahead if heard is not None and training.checkpointing != "full" else before
    if first.input is None or first.input_kept:
        return before
    less = before - first.input
    return before if any(factor < 0 for factor in less.terms.values()) else less


def _encoder(found: Measured, training: Training) -> TrainingEncoder | None:
    """The encoder beside the layers."""
    whole = training.checkpointing == "full"
    plain, layer = found.applied.encoder(recomputed=False), found.applied.encoder(recomputed=whole)
    if plain is None or layer is None:
        return None
    entry, sizes = found.entry, found.applied.structure.sizes[-1]
    frozen = training.method != "full"
    absent = layer.ahead if frozen and not whole else Polynomial({})
    moments = [
        (
            _value(found, moment.activations - absent, entry, training),
            found.value(moment.gradients, entry),
            _scores(moment.activations) == _scores(plain.kept),
        )
        for moment in layer.moments
    ]
    backward, gradients, _ = max(moments, key=lambda moment: moment[0] + moment[1], default=(0, 0, True))
    linears = tuple(_linear(use, sizes) for use in found.applied.coefficients.linears.get("encoder", ()))
    width = 2 if "/bf16/" in found.applied.coefficients.mode else 4
    trained = 0 if frozen else found.value(layer.gradients, entry) // width
    return TrainingEncoder(
        layers=found.value(layer.layers, entry),
        kept=_value(found, layer.kept, entry, training),
        backward=backward,
        reached=_value(found, layer.reached - absent, entry, training),
        before_attending=max((nbytes for nbytes, _, saved in moments if saved), default=0),
        attending=max((nbytes for nbytes, _, saved in moments if not saved), default=0),
        backward_gradients=gradients,
        weights=trained or sum(linear.inputs * linear.outputs for linear in linears),
        trained=trained,
        linears=linears,
    )


def _scores(polynomial: Polynomial) -> Polynomial:
    """The terms of an encoder's attention scores."""
    return Polynomial(
        {names: each for names, each in polynomial.terms.items() if "b" in names and names.count("source") > 1}
    )


def _begun(found: Measured, number: int, training: Training) -> int:
    """Bytes at the start of a layer's backward: its saved tensors, its input if checkpointed, and the gradient of its
    output, which has the shape of its input."""
    part = found.applied.reduced[number]
    if part.input is None:
        return _value(found, part.kept, number, training)
    return _value(found, part.kept + _beside(part, training) + part.input, number, training)


def _normed(found: Measured, training: Training) -> int:
    """Bytes that the head saves without its logits: those of the last norm."""
    kept, sizes = found.applied.parts[found.head].kept, found.applied.sizes[found.head]
    alone = Polynomial({names: factor for names, factor in kept.terms.items() if "vocab" not in names})
    return _value(found, alone.reduced(sizes), found.head, training)


def _speaks(model: Model) -> bool:
    """Whether logits over the vocabulary follow the layers; so they are taken to do where the class is not known."""
    return model.architecture.head != "none"


def _outputs(model: Model) -> int:
    """Outputs of a classifier; 0 without one."""
    groups = model.parameters.groups if model.parameters is not None else ()
    return max((group.shape[0] for group in groups if group.component == "lm_head"), default=0)


def _highest(found: Measured, part: Part, number: int, training: Training, beside: Polynomial) -> tuple[int, int]:
    """Bytes of activations and of parameter gradients at the peak of a part."""
    moments = [
        (_value(found, moment.activations + beside, number, training), found.value(moment.gradients, number))
        for moment in part.moments
    ]
    return max(moments, key=sum, default=(0, 0))


def _value(found: Measured, polynomial: Polynomial, number: int, training: Training) -> int:
    """Bytes of a polynomial, without autocast's copies of the layers' weights (terms without tokens): `phases` counts
    those. The head's own copy, and the gradient of it, are the head's."""
    if training.precision.autocast and number != found.head:
        terms = {names: factor for names, factor in polynomial.terms.items() if {"s", "source"} & {*names}}
        polynomial = Polynomial(terms)
    return max(0, found.value(polynomial, number))


def _how(found: Measured, training: Training) -> str:
    kinds = []
    for number, layer in enumerate(found.applied.structure.layers):
        part = found.applied.parts[number]
        kept = part.input if training.checkpointing == "full" and part.input is not None else part.kept
        alpha, beta = found.alpha_beta(kept, number)
        kinds.append(f"{layer.kind.replace('_', ' ')}: {kept.describe()} (alpha {alpha:.1f}, beta {beta:.1f})")
    return f"batch {found.batch} × {found.seq:,} tokens; a layer of {'; of '.join(dict.fromkeys(kinds))}"
