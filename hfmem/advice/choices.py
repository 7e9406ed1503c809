"""Which of several quantisations to take: each held against the accelerators that were named.

One header is enough for all of them. What a quantisation changes are the weights: those of a file whose header was not
read follow from its size, and cache, compute buffers and output are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hfmem.advice.fit import MOST, Case, fit_all, fit_of, held, largest, machines
from hfmem.advice.values import Candidate, Fit
from hfmem.engines.inference import estimate as estimate_memory
from hfmem.errors import InvalidScenarioError
from hfmem.estimator.values import Estimate
from hfmem.fetcher.quantisations import Choice, preferred, word_for
from hfmem.hardware.values import Machine
from hfmem.mapper.gguf.resized import resized
from hfmem.mapper.interpret import Model
from hfmem.options.rules import mode_of
from hfmem.scenario.options import Options
from hfmem.scenario.resolve import resolve

__all__ = ["Comparison", "compared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Several quantisations, the smallest first.

    Attributes:
        rows: each of them; one is chosen.
        model: the chosen one.
    """

    rows: tuple[Candidate, ...]
    model: Model


def compared(
    model: Model, options: Options, among: Sequence[Choice], others: Mapping[str, Model], unread: Mapping[str, str]
) -> Comparison:
    """Each quantisation, and the one to take: the largest that fits with room to spare on the first accelerator that
    was named, else the one that llama.cpp takes.

    Args:
        model: the one whose header was read.
        options: what is asked.
        among: the quantisations, that one among them.
        others: those whose headers were read too, by their first files.
        unread: why files could not be read, by their names.
    """
    run = _Run(model, options, machines(options) if options.gpu else (), among)
    models = {choice: run.model_of(choice, others, unread) for choice in among}
    rows = {choice: run.row(choice, models[choice], unread) for choice in among}
    chosen = _best(rows) or next(choice for choice in preferred(among) if models[choice] is not None)
    rows[chosen] = replace(rows[chosen], chosen=True)
    ordered = sorted(rows.values(), key=lambda row: (row.nbytes is None, row.nbytes or 0, row.file))
    return Comparison(rows=tuple(ordered), model=models[chosen] or model)


def _best(rows: Mapping[Choice, Candidate]) -> Choice | None:
    """The largest of those that fit as a whole with room to spare."""
    fitting = [choice for choice, row in rows.items() if row.first is not None and row.first.verdict == "fits"]
    return max(fitting, key=lambda choice: choice.size or 0, default=None)


class _Run:
    """What is asked, and the model whose header was read on each machine, whose estimates serve the others."""

    def __init__(self, model: Model, options: Options, machines: Iterable[Machine], among: Sequence[Choice]) -> None:
        self.model, self.options, self.among = model, options, among
        self.machines = tuple(machines)
        self.read = next((choice for choice in among if choice.files == model.checkpoint.weight_files), None)
        self.cases = {machine: case for machine in self.machines if (case := self._case(machine)) is not None}

    @property
    def measured(self) -> bool:
        """Whether quantisations are compared by more than their sizes."""
        return mode_of(self.options) == "inference" and self.options.method == "exact"

    def model_of(self, choice: Choice, others: Mapping[str, Model], unread: Mapping[str, str]) -> Model | None:
        """The model in a quantisation; None where nothing tells it."""
        word = word_for(choice, self.among)
        own = self.model if choice == self.read else others.get(choice.file)
        if own is not None:
            checkpoint = own.checkpoint
            return replace(own, checkpoint=replace(checkpoint, ref=replace(checkpoint.ref, quant=word)))
        if choice.file in unread or self.read is None or not choice.alike(self.read):
            return None
        return resized(self.model, choice, word)

    def row(self, choice: Choice, model: Model | None, unread: Mapping[str, str]) -> Candidate:
        """A quantisation with what is known of it."""
        found = Candidate(
            word=word_for(choice, self.among),
            file=choice.file,
            quant=choice.quant,
            nbytes=choice.size,
            bits_per_weight=_bits(choice, model),
            unknown=self._unknown(choice, unread) if model is None else "",
        )
        if model is None or not self.measured:
            return found
        found = replace(
            found, derived=bool(model.resized), fits=tuple(self._fit(model, machine) for machine in self.machines)
        )
        first = found.first
        return replace(found, estimate=self._anywhere(model) if first is None else first.estimate)

    def _unknown(self, choice: Choice, unread: Mapping[str, str]) -> str:
        if reason := unread.get(choice.file):
            return f"it cannot be read ({reason})"
        if choice.missing:
            return f"{choice.missing} of its {choice.missing + len(choice.files)} files are not there"
        if self.read is not None and not choice.alike(self.read):
            return f"it is named otherwise than {self.read.file}, whose header was read"
        return "its size is not known"

    def _anywhere(self, model: Model) -> Estimate:
        return estimate_memory(model, resolve(self.options, model))

    def _case(self, machine: Machine) -> Case | None:
        """The model whose header was read on a machine; None where the engine refuses it there."""
        if not machine.there or not self.measured:
            return None
        try:
            return Case.of(self.model, self.options, machine)
        except InvalidScenarioError:
            return None

    def _fit(self, model: Model, machine: Machine) -> Fit:
        """A quantisation on a machine, and the longest context there."""
        shared = self.cases.get(machine)
        if shared is None:
            return fit_all(model, self.options, (machine,))[0]
        found = fit_of(Case.of(model, self.options, machine))
        if found.estimate is None or found.estimate.is_lower_bound:
            return found
        return replace(found, max_seq=_longest(shared, found.estimate))


def _longest(shared: Case, estimate: Estimate) -> int:
    """Tokens that fit: a quantisation takes, at each length, so much more or less than the one that was read as it does
    at the asked length."""
    batch = shared.scenario.batch
    before, _ = shared.taken(batch, shared.scenario.seq)
    more = estimate.total - before.total

    def fits(seq: int) -> bool:
        return held(*shared.taken(batch, seq), more)

    return largest(fits, shared.model.architecture.max_positions or MOST)


def _bits(choice: Choice, model: Model | None) -> float | None:
    """Bits of the files a parameter."""
    parameters = model.parameters.total if model is not None and model.parameters is not None else 0
    return None if choice.size is None or not parameters else 8 * choice.size / parameters
