"""Activations of timm's networks for images, which transformers runs as timm itself does (`TimmWrapperModel`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hfmem.engines.convolutions import COPIES, highest
from hfmem.engines.protocol import Found
from hfmem.estimator.activations.images import forward
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.unknown import Unknown

if TYPE_CHECKING:
    from hfmem.mapper.inputs import Network

__all__ = ["network_activations"]


def network_activations(network: Network, scenario: Scenario) -> Found:
    """A forward pass, as a range where it is not known how cuDNN runs the highest convolution."""
    found = forward(network, scenario)
    if isinstance(found, Unknown):
        return Found(unknown=(("activations", found.reason),))
    single = scenario.compute_dtype == "float32"
    low, high = highest(found, scenario.gpu, images=scenario.batch, single=single)
    more = f", {COPIES}: {high - found.peak:,} B" if high > found.peak else ""
    pass_ = Term(
        name="forward pass",
        group="activations",
        nbytes=high,
        how=f"{found.how}{more}",
        source=found.source,
        certainty="measured" if found.measured else "typical",
    )
    size = f"{network.channels} × {scenario.image_height} × {scenario.image_width}"
    pixels = Term(
        name="images",
        group="activations",
        nbytes=found.pixels,
        how=f"{scenario.batch:,} × {size} in {scenario.compute_dtype}",
        source="the input of the network",
        certainty="derived",
    )
    buffers = Term(
        name="buffers of the class",
        group="weights",
        nbytes=found.buffers,
        how="masks and tables of positions that it computes, and that no file has",
        source=found.source,
        certainty="measured",
    )
    terms = (pass_, pixels, buffers) if found.buffers else (pass_, pixels)
    return Found(terms=terms, spared=high - low, convolved=high > low)
