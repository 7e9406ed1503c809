"""Generation as GRPO and RLOO do it, under `FakeTensorMode`: passes of the real class in autocast, with a cache.

The prompt's pass, and the last token's, with the cache of all before it. `generate` itself needs values.

    python -m tests.oracle.trl_generation      # writes fixtures/oracle/trl.json (needs PyTorch)
"""

from __future__ import annotations

import json
import warnings
from typing import Any
from unittest.mock import patch

import torch
import transformers
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import masking_utils

from hfmem.probe.activations.flash import fused_attention
from hfmem.probe.activations.tracer import Tracer
from hfmem.probe.tiny import build
from tests.oracle.trl_cases import GENERATIONS, LAYERS, RECORD, Generation, generation_key, shortened

__all__ = ["measure"]


def measure(case: Generation) -> int:
    """Bytes above the float32 weights at the peak."""
    tracer = Tracer(sums_in_place=True)
    with (
        warnings.catch_warnings(),
        fused_attention(),
        patch.object(masking_utils, "find_packed_sequence_indices", lambda _positions: None),
        patch.object(masking_utils, "_ignore_causal_mask_sdpa", lambda *_a, **_k: False),
        FakeTensorMode(allow_non_fake_inputs=True),
    ):
        warnings.simplefilter("ignore")
        config = build(shortened(case.model, LAYERS))
        kind = transformers.AutoModelForCausalLM
        model = kind.from_config(config, dtype=torch.float32, attn_implementation="sdpa").eval()
        for parameter in model.parameters():
            parameter.requires_grad_(case.method == "full")
        with tracer, torch.no_grad():
            tracer.give([*model.parameters(), *model.buffers()])
            held = sum(tracer.allocations[number].nbytes for number in tracer.live())
            _pass(model, case.rows, case.prompt)
            first = len(tracer.events)
            cache = _pass(model, case.rows, case.prompt + case.completion - 1)
            start = len(tracer.events)
            _pass(model, case.rows, 1, cache)
    return max(_peak(tracer, 0, first), _peak(tracer, start, len(tracer.events))) - held


def _pass(model: Any, rows: int, tokens: int, cache: Any = None) -> Any:
    """A pass, and its cache."""
    earlier = cache.get_seq_length() if cache is not None else 0
    ids = torch.zeros((rows, tokens), dtype=torch.long)
    mask = torch.ones((rows, tokens + earlier), dtype=torch.long)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return found.past_key_values


def _peak(tracer: Tracer, start: int, end: int) -> int:
    """The most bytes alive at once, from an event up to another."""
    live, most = 0, 0
    for place, (allocated, number, _segment) in enumerate(tracer.events[:end]):
        live += tracer.allocations[number].nbytes if allocated else -tracer.allocations[number].nbytes
        most = max(most, live) if place >= start else 0
    return most


def main() -> None:
    """Write the record."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    record["generation"] = {generation_key(case): measure(case) for case in GENERATIONS}
    RECORD.write_text(json.dumps(record, indent=1, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
