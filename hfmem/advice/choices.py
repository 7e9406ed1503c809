"""The fit of each quantisation of a repository or folder on the given accelerators, and which one to use.

One header is enough for all: a quantisation changes the weights, which follow from the size of the file, while the KV
cache, the compute buffers and the output stay the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from hfmem.advice.bisection import largest
from hfmem.advice.fit import MOST, Case, fit_all, fit_of, held, machines
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

__all__ = ["Comparison", "compared", "largest_fitting"]

Made = Callable[[Choice], Model | None]
"""The model of a quantisation whose header was read, or which is made of another; None for any other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The quantisations of a model.

    Attributes:
        rows: one for each, sorted by size; one of them is chosen.
        model: the model of the chosen one.
    """

    rows: tuple[Candidate, ...]
    model: Model


def compared(
    model: Model, options: Options, among: Sequence[Choice], others: Made, unread: Mapping[str, str]
) -> Comparison:
    """Compare quantisations, and choose one: the largest that fits on the first accelerator with the engine's margin to
    spare, else llama.cpp's default.

    Args:
        model: the model whose header was read.
        options: the requested options.
        among: all quantisations, including the one of `model`.
        others: further models whose headers were read.
        unread: why files could not be read, by file name.
    """
    run = _Run(model, options, machines(options) if options.gpu else (), among)
    models = {choice: run.model_of(choice, others, unread) for choice in among}
    rows = {choice: run.row(choice, models[choice], unread) for choice in among}
    chosen = _best(rows, run.read) or next(choice for choice in preferred(among) if models[choice] is not None)
    rows[chosen] = replace(rows[chosen], chosen=True)
    ordered = sorted(rows.values(), key=lambda row: (row.nbytes is None, row.nbytes or 0, row.file))
    return Comparison(rows=tuple(ordered), model=models[chosen] or model)


def largest_fitting(
    model: Model, options: Options, among: Sequence[Choice], others: Made, unread: Mapping[str, str]
) -> Model:
    """The model of the quantisation that `compared` chooses, without a row for each: no smaller ones than it are looked
    at, and no limits are searched."""
    run = _Run(model, options, machines(options), among)
    alike = [choice for choice in among if run.read is None or choice.alike(run.read)]
    there = next((machine for machine in run.machines if machine.there), None)
    for choice in sorted(alike, key=lambda choice: choice.size or 0, reverse=True) if there and run.measured else ():
        found = run.model_of(choice, others, unread)
        if found is not None and run.verdict(found, there) == "fits":
            return found
    usual = (run.model_of(choice, others, unread) for choice in preferred(among))
    return next((found for found in usual if found is not None), model)


def _best(rows: Mapping[Choice, Candidate], read: Choice | None) -> Choice | None:
    """The largest that fits with room to spare; a folder may also hold models of other sizes, which are not compared
    with the default."""
    alike = {choice: row.first for choice, row in rows.items() if read is None or choice.alike(read)}
    fitting = [choice for choice, fit in alike.items() if fit is not None and fit.verdict == "fits"]
    return max(fitting, key=lambda choice: choice.size or 0, default=None)


class _Run:
    """The options, and a case of the model whose header was read for each machine; its estimates are shared."""

    def __init__(self, model: Model, options: Options, machines: Iterable[Machine], among: Sequence[Choice]) -> None:
        self.model, self.options, self.among = model, options, among
        self.machines = tuple(machines)
        self.read = next((choice for choice in among if choice.files == model.checkpoint.weight_files), None)
        self.cases = {machine: case for machine in self.machines if (case := self._case(machine)) is not None}

    @property
    def measured(self) -> bool:
        """Whether to estimate each quantisation; other modes list file sizes only."""
        return mode_of(self.options) == "inference" and self.options.method == "exact"

    def verdict(self, model: Model, machine: Machine | None) -> str:
        """The verdict on a quantisation."""
        return "" if machine is None else fit_all(model, self.options, (machine,), limits=False)[0].verdict

    def model_of(self, choice: Choice, others: Made, unread: Mapping[str, str]) -> Model | None:
        """The model of a quantisation; None if it cannot be determined."""
        word = word_for(choice, self.among)
        own = self.model if choice == self.read else others(choice)
        if own is not None:
            checkpoint = own.checkpoint
            return replace(own, checkpoint=replace(checkpoint, ref=replace(checkpoint.ref, quant=word)))
        if choice.file in unread or self.read is None or not choice.alike(self.read):
            return None
        return resized(self.model, choice, word)

    def row(self, choice: Choice, model: Model | None, unread: Mapping[str, str]) -> Candidate:
        """The row of a quantisation."""
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
            return f"the file cannot be read ({reason})"
        if choice.missing:
            return f"{choice.missing} of its {choice.missing + len(choice.files)} files are missing"
        if self.read is not None and not choice.alike(self.read):
            return f"its name states another size than {self.read.file}, whose header was read"
        return "its file size is unknown"

    def _anywhere(self, model: Model) -> Estimate:
        return estimate_memory(model, resolve(self.options, model))

    def _case(self, machine: Machine) -> Case | None:
        """The model whose header was read, on a machine; None if the engine refuses it there."""
        if not machine.there or not self.measured:
            return None
        try:
            return Case.of(self.model, self.options, machine)
        except InvalidScenarioError:
            return None

    def _fit(self, model: Model, machine: Machine) -> Fit:
        """The fit of a quantisation on a machine, with the longest context."""
        shared = self.cases.get(machine)
        if shared is None:
            return fit_all(model, self.options, (machine,))[0]
        found = fit_of(Case.of(model, self.options, machine))
        if found.estimate is None or found.estimate.is_lower_bound:
            return found
        return replace(found, max_seq=_longest(shared, found.estimate))


def _longest(shared: Case, estimate: Estimate) -> int:
    """The longest context: at every length, the total differs from the shared case's by the same number of bytes as at
    the requested length, the difference of the weights."""
    batch = shared.scenario.batch
    before, _ = shared.taken(batch, shared.scenario.seq)
    more = estimate.total - before.total

    def fits(seq: int) -> bool:
        return held(*shared.taken(batch, seq), more)

    return largest(fits, shared.model.architecture.max_positions or MOST)


def _bits(choice: Choice, model: Model | None) -> float | None:
    """File bits per parameter."""
    parameters = model.parameters.total if model is not None and model.parameters is not None else 0
    return None if choice.size is None or not parameters else 8 * choice.size / parameters
