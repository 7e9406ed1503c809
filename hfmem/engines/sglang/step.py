"""What has to lie in the memory that `--mem-fraction-static` leaves: the tensors of a prefill step, CUDA graphs, and
the table of each request's tokens. SGLang does not check it: a share that leaves less ends with "out of memory" while
graphs are captured, or at the first long prompt.

Source: SGLang 0.5.23 `srt/layers/moe/moe_runner/triton_utils/fused_moe.py` (scratch of experts),
`srt/mem_cache/memory_pool.py::ReqToTokenPool`, `srt/arg_groups/memory_hook.py` (graphs).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.forward import layer_inner
from hfmem.engines.sglang.fraction import UNCHUNKED, graph_reserve, sizes_of
from hfmem.engines.sglang.settings import settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Experts, Layer
from hfmem.units import MIB

__all__ = ["Step", "request_table", "step_of"]

_STREAMS: Final = 4  # the attention's output, the residual stream before and after it, the normalised states
_COLUMNS: Final = 4  # of a request's row, beside its context (`extra_max_context_len`)
_COLUMN: Final = 4  # bytes: int32


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a rank needs beside weights and pools.

    Attributes:
        tokens: of a prefill step.
        activations: bytes of the widest point of its forward pass.
        graphs: bytes that SGLang itself reserves for CUDA graphs.
    """

    tokens: int
    activations: int
    graphs: int

    @property
    def nbytes(self) -> int:
        return self.activations + self.graphs

    def describe(self) -> str:
        """In words: for how many tokens, and whether with graphs."""
        return f"a prefill step of {self.tokens:,} tokens" + (" and CUDA graphs" if self.graphs else "")


def step_of(model: Model, scenario: Scenario) -> Step:
    """The step of one rank; `model` is the part on that rank, or the whole for its settings."""
    sizes, asked = sizes_of(model, scenario), settings_of(scenario)
    dtype, hidden = find_dtype(scenario.compute_dtype or ""), model.architecture.hidden_size or 0
    chunk = sizes.chunk // sizes.replicas if sizes.chunk > 0 else max(UNCHUNKED // sizes.replicas, scenario.seq)
    width = dtype.nbytes(1) if dtype else 2
    layers = dict.fromkeys(model.architecture.layers or ())
    ranks = scenario.parallel.tp * (sizes.replicas if asked.enable_dp_attention else 1)
    dense = max((layer_inner(layer, ranks) for layer in layers), default=0)
    routed = max((_scratch(layer, hidden, ranks // asked.ep) for layer in layers), default=0)
    # the layers that replicas of attention share get the tokens of all of them
    gathered = chunk * sizes.replicas
    elements = _STREAMS * chunk * hidden + gathered * (dense + routed)
    captured = replace(sizes, captured=not asked.disable_cuda_graph)
    return Step(tokens=chunk, activations=elements * width, graphs=int(graph_reserve(captured) * MIB))


def _scratch(layer: Layer, hidden: int, ranks: int) -> int:
    """Elements per token that the experts' kernel needs: gate and up projections, and then the outputs in their place,
    beside the product. Of experts on other ranks, a rank has the tokens too, at most."""
    if not isinstance(layer.ffn, Experts):
        return 0
    inner = layer.ffn.intermediate // max(1, ranks)
    return layer.ffn.per_token * (inner + max(2 * inner, hidden))


def request_table(scenario: Scenario, running: float) -> int:
    """Bytes of the table of each request's tokens, for so many requests at once."""
    columns = scenario.seq + _COLUMNS + settings_of(scenario).drafted
    return (int(running) + 1) * columns * _COLUMN
