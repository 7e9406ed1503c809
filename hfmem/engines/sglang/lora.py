"""The slots for LoRA adapters: for each module that an adapter may change, two matrices of the largest rank, whatever
the adapters that are loaded later do. They are allocated after the weights and before the pools.

Source: SGLang 0.5.23 `srt/lora/mem_pool.py` (`get_lora_A_shape`, `get_lora_B_shape`, `init_buffers`),
`srt/lora/utils.py` (`auto_detect_lora_target_modules`), `srt/arg_groups/lora_hook.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from hfmem.dtypes import find_dtype
from hfmem.engines.adapting import matrix_sides
from hfmem.engines.sglang.settings import settings_of
from hfmem.estimator.scenario import Scenario
from hfmem.estimator.values import Term
from hfmem.mapper.interpret import Model
from hfmem.mapper.values import Experts

__all__ = ["lora_refusal", "lora_terms"]

_SOURCE: Final = "SGLang 0.5.23, srt/lora/mem_pool.py"
_DECODER: Final = ("attention", "mlp", "shared_experts", "state")


def lora_terms(model: Model, scenario: Scenario) -> tuple[Term, ...]:
    """The slots on one rank; `model` is the part on that rank."""
    asked, dtype = settings_of(scenario), find_dtype(scenario.compute_dtype or "")
    if not asked.loras or model.parameters is None or dtype is None:
        return ()
    sides = sum(_sides(model, scenario))
    how = f"{asked.loras} adapters × rank {asked.lora_rank} × {sides:,} inputs and outputs × {dtype.nbytes(1)} B"
    return (
        Term(
            name="LoRA slots",
            group="weights",
            nbytes=dtype.nbytes(asked.loras * asked.lora_rank * sides),
            how=how,
            source=_SOURCE,
            certainty="derived",
        ),
    )


def _sides(model: Model, scenario: Scenario) -> Iterator[int]:
    """Inputs plus outputs of the modules on this rank, with `--lora-target-modules all`."""
    tp, architecture = scenario.parallel.tp, model.architecture
    for group in model.parameters.groups if model.parameters else ():
        dense = group.component in _DECODER and len(group.shape) == 2 and group.linear
        if group.loaded and dense and not group.scale and not group.bias:
            yield group.count * matrix_sides(group, tp)
    hidden, vocabulary = architecture.hidden_size or 0, architecture.vocab_size or 0
    yield from _experts(model, scenario, hidden)
    # the embedding's matrices are on every rank whole; of the head, the outputs are divided
    yield vocabulary + hidden
    if architecture.head == "lm_head":
        yield hidden + -(-vocabulary // tp)


def _experts(model: Model, scenario: Scenario, hidden: int) -> Iterator[int]:
    """Gate, up and down projection of each expert on this rank, in buffers of every layer, also those without."""
    asked, plan, layers = settings_of(scenario), scenario.parallel, model.architecture.layers or ()
    ffn = next((layer.ffn for layer in layers if isinstance(layer.ffn, Experts)), None)
    if ffn is None:
        return
    ranks = plan.tp * (plan.dp if asked.enable_dp_attention else 1)
    inner = ffn.intermediate // max(1, ranks // asked.ep)
    yield len(layers) * -(-ffn.count // asked.ep) * 3 * (hidden + inner)


def lora_refusal(model: Model, scenario: Scenario) -> str:
    """Why adapters are refused, or cannot be counted; "" where they are not."""
    asked = settings_of(scenario)
    if model.adapted is not None:
        return (
            "slots of SGLang for an adapter are not modelled: ask for the base model with --enable-lora "
            f"--max-lora-rank {model.adapted.rank or 'N'}"
        )
    if not asked.loras:
        return ""
    if not asked.lora_rank:
        return "--enable-lora needs --max-lora-rank"
    if model.parameters is None or not model.parameters.groups:
        return "the modules that adapters may change are not known: LoRA slots cannot be counted"
    return ""
