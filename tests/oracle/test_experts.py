"""A pass of decoding of the real class, its experts run as `generate` does on an accelerator, needs the copies."""

from __future__ import annotations

import pytest

from tests.oracle.small import model_of

pytestmark = pytest.mark.oracle


@pytest.mark.parametrize("model_type", ["mixtral", "qwen3_moe", "gpt_oss", "olmoe"])
def test_a_pass_of_decoding_needs_the_copies(model_type: str) -> None:
    import torch
    import transformers

    from hfmem.estimator.activations.experts import copied_experts
    from hfmem.probe import tiny
    from hfmem.probe.activations.tracer import Tracer
    from tests.oracle.activations import scenario_of

    name = tiny.types()[model_type][1]
    config = tiny.shrunk(model_type, name) | {"intermediate_size": 512, "moe_intermediate_size": 512}
    model = getattr(transformers, name)._from_config(tiny.build(config), dtype=torch.bfloat16).eval()
    model.set_experts_implementation("batched_mm")
    batch = 8
    tokens = torch.randint(3, 90, (batch, 9))
    tracer = Tracer()
    with torch.no_grad():
        kept = model(input_ids=tokens, use_cache=True).past_key_values
        with tracer:
            given = tracer.give([*model.parameters(), *model.buffers()])
            tracer.segment = ("decode", 0)
            model(input_ids=tokens[:, :1], cache=kept, use_cache=True)
    live = highest = 0
    for allocated, number, _ in tracer.events:
        if number not in given:
            live += tracer.allocations[number].nbytes * (1 if allocated else -1)
            highest = max(highest, live)
    described = model_of(config)
    found = copied_experts(described, scenario_of(described, batch, 10))
    assert found is not None
    assert found.nbytes == pytest.approx(highest, rel=0.03)
