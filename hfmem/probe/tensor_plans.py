"""Writes `data/tensor_plans.jsonl`: how the classes of the installed `transformers` are split across tensor-parallel
ranks.

    python -m hfmem.probe.tensor_plans

A small model of each type is built on the meta device and split by the library's own functions across two ranks of a
fake process group; how each parameter is split then follows from its shape. transformers rejects classes without a plan
(`_resolve_parallel_plans` of distributed/mixin.py). A class that cannot be built here has no line; the line of its text
model may apply.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
import torch.distributed as dist
import transformers
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers.distributed.configuration_utils import DistributedConfig
from transformers.distributed.parallel_utils import _get_parameter_plan
from transformers.distributed.tensor_parallel import apply_tensor_parallelism
from transformers.initialization import no_tie_weights
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from hfmem.mapper.names import meaning
from hfmem.probe import tiny
from hfmem.probe.attention import classes

__all__ = ["TARGET", "built", "classes", "cut", "on_meta", "row", "shards"]

TARGET: Final = Path(__file__).parent.parent / "data" / "tensor_plans.jsonl"

_LOCAL: Final = ("colwise", "packed_colwise")  # styles whose output stays sharded, and with it heads and channels
_WAYS: Final = {
    **dict.fromkeys(("colwise", "colwise_gather_output", "colwise_rep", "embedding_rowwise"), "rows"),
    **dict.fromkeys(
        ("rowwise", "rowwise_split_input", "rowwise_rep", "embedding_colwise", "packed_rowwise"), "columns"
    ),
    "packed_colwise": "pairs",
}


def main() -> None:
    """Write the table: provenance, the types without a plan with their classes, then one line per plan."""
    source = {"source": f"transformers {transformers.__version__}", "tool": "python -m hfmem.probe.tensor_plans"}
    without: dict[str, str] = {}
    plans: dict[str, dict[str, str]] = defaultdict(dict)
    for model_type, name in sorted(classes().items()):
        try:
            model = built(model_type, name)
        except Exception as error:  # a class may reject the sizes or miss a package with any exception
            print(f"{model_type}: {type(error).__name__}")
            continue
        if model.tp_plan:
            plans[json.dumps(row(model), separators=(",", ":"))][model_type] = name
        elif hasattr(model, "tp_plan"):
            without[model_type] = name
    lines = [source, {"without": without}]
    lines += [
        {"types": types, **json.loads(plan)} for plan, types in sorted(plans.items(), key=lambda item: [*item[1]])
    ]
    TARGET.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    print(f"{len(plans)} plans, {len(without)} types without, {TARGET.stat().st_size:,} bytes")


def built(model_type: str, name: str) -> Any:
    """A small model of a class, or its default sizes if it cannot be shrunk. Weights are not tied yet, as in
    `from_pretrained`, which ties them after loading (`get_init_context` of modeling_utils.py)."""
    try:
        config = tiny.build(tiny.shrunk(model_type, name))
    except Exception:  # not a text-generating type
        config = CONFIG_MAPPING[tiny.config_type(model_type, name)]()
    return on_meta(getattr(transformers, name), config)


def on_meta(model_class: Any, config: Any) -> Any:
    """A model on the meta device, as `from_pretrained` builds it before splitting it."""
    with torch.device("meta"), no_tie_weights():
        return model_class(config)


def cut(model: Any, ranks: int) -> Any:
    """The model as the first of `ranks` tensor-parallel ranks holds it."""
    if not dist.is_initialized():
        dist.init_process_group("fake", rank=0, world_size=64, store=FakeStore())
    mesh = init_device_mesh("cpu", (64 // ranks, ranks), mesh_dim_names=("dp", "tp"))["tp"]
    plan, _, _ = model._resolve_parallel_plans(DistributedConfig(tp_size=ranks))
    return apply_tensor_parallelism(model, mesh, plan)


def shards(model: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter on this rank."""
    return {
        name: tuple((parameter.to_local() if isinstance(parameter, DTensor) else parameter).shape)
        for name, parameter in model.named_parameters()
    }


def row(model: Any) -> dict[str, Any]:
    """How the plan of a class splits each role of each component; whether KV heads and channels of recurrent states are
    split with the matrices; whether it has a plan for expert parallelism."""
    plan, experts = dict(model.tp_plan), bool(model.ep_plan)
    whole, after = shards(model), shards(cut(model, 2))
    found: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for name, shape in whole.items():
        of = meaning(name, len(shape))
        found[of.component][of.role][_way(shape, after[name], _style(name, plan))] += 1
    for name, style in plan.items():  # modules that the small model lacks, such as the MLP of a dense layer in an MoE
        of = meaning(f"{name}.weight", 2)
        if style in _WAYS and of.role not in found[of.component]:
            found[of.component][of.role][_WAYS[style]] += 1
    local = {meaning(f"{name}.weight", 2).component for name, style in plan.items() if style in _LOCAL}
    parts = {component: _parts(roles.items()) for component, roles in found.items() if _any(roles.values())}
    return {"heads": "attention" in local, "states": "state" in local, "experts": experts, "cut": parts}


def _any(counts: Iterable[Counter[str]]) -> bool:
    return any(way != "whole" for count in counts for way in count)


def _parts(roles: Iterable[tuple[str, Counter[str]]]) -> dict[str, list[str]]:
    """Roles by the way they are split. If tensors of one role differ, the most frequent way counts, and of equally
    frequent ones a split."""
    ways: dict[str, list[str]] = defaultdict(list)
    for role, counts in sorted(roles):
        ways[max(counts, key=lambda way: (counts[way], way != "whole"))].append(role)
    return dict(sorted(ways.items()))


def _way(whole: tuple[int, ...], part: tuple[int, ...], style: str) -> str:
    """The dimension that is split: the second to last (`rows`; `pairs` if it contains two matrices, each of which is
    split), the last (`columns`), or none (`whole`)."""
    if part == whole:
        return "whole"
    if part[-1] != whole[-1]:
        return "columns" if len(whole) > 1 else "rows"
    return "pairs" if style.startswith("packed") else "rows"


def _style(name: str, plan: Mapping[str, str]) -> str:
    return _get_parameter_plan(name, dict(plan)) or ""


if __name__ == "__main__":
    main()
