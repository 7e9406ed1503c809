"""Which accelerators and cloud instances hold a model, the fewest and smallest first.

Each answer is that of `--gpu` for the same machine: of every accelerator in the table, the smallest number that the
model fits on, up to a node of eight, and of every instance all of its accelerators.
"""

from __future__ import annotations

from typing import Final

from hfmem.advice.fit import Case, anywhere, fit_all
from hfmem.advice.values import Fit
from hfmem.errors import InvalidScenarioError
from hfmem.hardware.table import accelerators, instances, named
from hfmem.hardware.values import Accelerator, Machine
from hfmem.mapper.interpret import Model
from hfmem.scenario.options import Options

__all__ = ["holders"]

_NODE: Final = 8  # accelerators


def holders(model: Model, options: Options) -> tuple[Fit, ...]:
    """The machines that a model fits on, by the number of accelerators, then by their memory: accelerators of the
    table, then instances. The fits have no limits that need a search.

    Raises:
        InvalidScenarioError: the options contradict each other on any machine.
    """
    found = _Search(model, options)
    cards = [fit for card in accelerators() if (fit := found.fewest(card)) is not None]
    clouds = [
        fit
        for row in instances()
        if (fit := found.fit(Machine(accelerator=named(row.gpu)[0], count=row.count, instance=row.name))) is not None
    ]
    return (*sorted(cards, key=_size), *sorted(clouds, key=_size))


def _size(fit: Fit) -> tuple[int, int, str]:
    count = fit.machine.count or 1
    return count, count * fit.gpu.memory, fit.machine.instance or fit.gpu.name


class _Search:
    """A model in the asked scenario, on one machine after another."""

    def __init__(self, model: Model, options: Options) -> None:
        self.model, self.options = model, anywhere(options)
        self.known: dict[tuple[str, ...], int] = {}

    def fewest(self, card: Accelerator) -> Fit | None:
        """The fit on the fewest of an accelerator; None if it does not fit on a node of them. Machines with unified
        memory have one."""
        for count in range(1, (_NODE if card.kind == "discrete" else 1) + 1):
            fit = self.fit(Machine(accelerator=card, count=count))
            if fit is not None:
                return fit
        return None

    def fit(self, machine: Machine) -> Fit | None:
        """The fit on a machine; None if it does not fit."""
        if self._least(machine.accelerator) > (machine.count or 1) * machine.accelerator.memory:
            return None  # a lower bound that avoids an estimate
        (found,) = fit_all(self.model, self.options, (machine,), limits=False)
        return found if found.fits else None

    def _least(self, card: Accelerator) -> int:
        """Bytes of the weights that accelerators of this kind have to hold together: which number formats they have
        decides, not their memory."""
        kind = (card.vendor, card.generation, card.kind, card.compute_capability)
        if kind not in self.known:
            self.known[kind] = self._weights(card)
        return self.known[kind]

    def _weights(self, card: Accelerator) -> int:
        try:
            case = Case.of(self.model, self.options, Machine(accelerator=card, count=1))
        except InvalidScenarioError:
            return 0  # other numbers of them may be possible
        estimate = case.estimate(case.scenario)
        if any(term.group == "weights" and term.nbytes for term in estimate.host or ()):
            return 0  # each of several may leave as much in the host's memory
        return estimate.group("weights") or 0
