"""Training peaks that programs printed on real GPUs, beside ours: `python -m tests.measured.training` prints the table.

The rows are `fixtures/training/measured.jsonl`, each with its source. What a row is taken as (stack, precision) follows
from what its source states, by the rules below and never by which fits; a row that cannot be compared says why. Public
reports (`tests.measured.training_reports`) follow.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from hfmem import Model, Options
from hfmem.api import inspect, report_on
from hfmem.fetcher.values import Checkpoint, ModelRef
from hfmem.mapper.interpret import interpret
from tests.measured import megatron, training_reports

FIXTURES: Final = Path(__file__).parents[2] / "fixtures" / "training"
GIB: Final = 2**30

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What rows of a source are taken as.

    Attributes:
        prefix: how their ids begin.
        stack: the row of `hfmem.estimator.recipe.stacks`.
        evidence: what the source states.
        framework: words of the row's framework that the rule needs besides.
        model: words of the row's model that it needs.
        without: words that it must not have.
    """

    prefix: str
    stack: str
    evidence: str
    framework: str = ""
    model: str = ""
    without: str = "\0"

    def fits(self, row: Row) -> bool:
        """Whether the row is one of these."""
        words = str(row["framework"])
        named = row["id"].startswith(self.prefix) and self.model in row["model"]
        return named and self.framework in words and self.without not in words


_A100 = "a100_80gb.csv; requirements_update_cross_entropy_and_deps.txt beside it: transformers 4.48.1, trl 0.13.0"
_GRANITE = "a100_80gb_granite.csv; requirements_granite.txt beside it: transformers 4.45.0, trl of September 2024"
_LIGER = "a100_80gb_liger.csv (PR 93, November 2024); requirements.txt of that time: transformers 4.45.2, trl 0.11.4"
_PEFT_BENCH = "method_comparison of peft, torch 2.13, transformers 5"
_LITGPT = "config_hub/finetune/README.md of litgpt; settings of its YAML files: batches of more than a micro-batch"
_LITGPT_2023 = (
    "tutorials/resource-tables.md: Alpaca with its longest example, 'minibatch size of 128'; finetune/lora.py of that "
    "time: batch_size 128 over micro-batches and devices, the longest example in the first"
)
_MEGATRON = "golden values of Megatron Core's functional tests; arguments beside them"

RULES: Final = (
    Rule(
        prefix="fms-a100_80gb_granite", framework="baseline-peft-bnb", stack="transformers-4.45-kbit", evidence=_GRANITE
    ),
    Rule(prefix="fms-a100_80gb_granite", framework="foak", stack="transformers-4.45-foak", evidence=_GRANITE),
    Rule(prefix="fms-a100_80gb_granite", stack="transformers-4.45", evidence=_GRANITE),
    Rule(prefix="fms-a100_80gb_liger", framework="-liger", stack="transformers-4.45-liger", evidence=_LIGER),
    Rule(prefix="fms-a100_80gb_liger", framework="foak", stack="transformers-4.45-foak", evidence=_LIGER),
    Rule(
        prefix="fms-a100_80gb-",
        model="santacoder",
        stack="transformers-4-own-loss",
        evidence=f"{_A100}; GPTBigCodeForCausalLM.forward computes the loss on the bf16 logits",
    ),
    Rule(prefix="fms-a100_80gb-", framework="baseline-peft-bnb", stack="transformers-4.48-kbit", evidence=_A100),
    Rule(prefix="fms-a100_80gb-", framework="foak", stack="transformers-4.48-foak", evidence=_A100),
    Rule(prefix="fms-a100_80gb-", stack="transformers-4.48", evidence=_A100),
    Rule(prefix="peft-", stack="transformers-5", evidence=_PEFT_BENCH),
    Rule(prefix="litgpt-", framework="Oct-2023", stack="litgpt-longest-first", evidence=_LITGPT_2023),
    Rule(prefix="litgpt-", stack="litgpt", evidence=_LITGPT),
    Rule(prefix="megatron-", stack="megatron", evidence=_MEGATRON),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One row beside ours.

    Attributes:
        row: as it was printed.
        stack: what it is taken as; "" where it is not compared.
        measured, ours: bytes; 0 where it is not compared.
        between, ours_between: bytes allocated between steps; 0 where the row does not have them.
        seen, reserved: bytes that nvidia-smi showed, and our range of them; 0 where the row does not have them.
        reason: why it is not compared.
    """

    row: Row
    stack: str = ""
    measured: int = 0
    ours: int = 0
    between: int = 0
    ours_between: int = 0
    seen: int = 0
    reserved: tuple[int, int] = (0, 0)
    reason: str = ""

    @property
    def error(self) -> float:
        """Relative."""
        return self.ours / self.measured - 1


@cache
def rows() -> tuple[Row, ...]:
    """Every row of tier A and B."""
    return tuple(json.loads(line) for line in (FIXTURES / "measured.jsonl").read_text(encoding="utf-8").splitlines())


@cache
def _configs() -> dict[str, dict[str, Any]]:
    lines = (FIXTURES / "configs.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["model"]: entry["config"] for entry in map(json.loads, lines)}


@cache
def model(name: str) -> Model:
    """A model of the catalog, or of a configuration beside the rows."""
    config = _configs().get(name)
    return inspect(name, offline=True) if config is None else from_config(name, config)


def from_config(name: str, config: Mapping[str, Any]) -> Model:
    """The model that a configuration describes."""
    return interpret(
        Checkpoint(ref=ModelRef(model_id=name), commit=None, source="local", provenance="configuration", config=config)
    )


def compare() -> list[Comparison]:
    """Every row, compared or with the reason why not."""
    return [compare_row(row) for row in rows()]


def compare_row(row: Row) -> Comparison:
    """One row."""
    rule = next((rule for rule in RULES if rule.fits(row)), None)
    reason = _unfit(row)
    if reason is None and rule is None:
        reason = "no stack of the table is this software"
    if reason is not None or rule is None:
        return Comparison(row=row, reason=reason or "")
    subject, options = megatron.scenario(row, rule.stack) if rule.stack == "megatron" else _transformers(row, rule)
    estimate = report_on(subject, options).estimate
    assert estimate.training is not None
    facts = estimate.training
    after_step = str(row["metric"]).startswith("memory_allocated")  # sampled before the gradients are freed
    ours = facts.steady + facts.gradients if after_step else facts.allocated
    if rule.stack == "megatron":
        ours = estimate.ranks[-1].allocated  # the last stage prints
    kept = facts.gradients if options.fsdp else 0  # FSDP keeps its shards of the gradients until the next step
    return Comparison(
        row=row,
        stack=rule.stack,
        measured=round(row["value_gib"] * GIB),
        ours=ours,
        between=row.get("end_alloc_bytes", 0),
        ours_between=facts.steady + kept,
        seen=round(row.get("nvidia_smi_mib", 0) * 2**20) if "allocated" in str(row["metric"]) else 0,
        reserved=facts.reserved,
    )


def _unfit(row: Row) -> str | None:  # noqa: PLR0911 - a list of reasons
    if "kernel" in str(row["metric"]):
        return "a kernel alone"
    if "FLUX" in row["model"] or "vit_" in row["model"]:
        return "not a language model"
    if row["method"] not in ("full", "lora", "qlora", "gptq-lora") and not row["id"].startswith("megatron-"):
        return f"a method that is not modelled: {row['method']}"
    if row.get("seq") is None and "allocated after" not in row["metric"]:
        return "the length of the sequences is not stated"
    if row["id"].startswith("megatron-"):
        return megatron.unfit(row)
    if "allocated" not in str(row["metric"]) and "active_bytes" not in str(row["metric"]):
        return f"not allocated memory: {row['metric']}"
    return None


def _transformers(row: Row, rule: Rule) -> tuple[Model, Options]:
    lora = row.get("lora") or {}
    sharded = row.get("parallel") or {}
    name = str(row["model"])
    quantised = "GPTQ" in name
    subject = model(_BASES.get(name, name))
    method = {"full": "full", "lora": "lora", "qlora": "qlora", "gptq-lora": "lora"}[row["method"]]
    options = Options(
        train=method,
        stack=rule.stack,
        batch=row["batch"],
        seq=row.get("seq"),
        attention="eager" if "gemma-2-9b" in name else "flash",  # LitGPT caps scores in an attention of its own
        dtype="int4" if quantised else None,
        precision=_precision(row),
        optimizer="adamw",
        gradient_checkpointing=bool(row.get("gradient_checkpointing")),
        lora_rank=lora.get("r"),
        lora_targets=_targets(lora.get("targets") or (), rule.stack, subject),
        gradient_accumulation=_accumulation(row),
        lora_dtype="bfloat16" if rule.stack.startswith("litgpt") else None,
        lora_dropout=lora.get("dropout"),
        double_quant=row["method"] == "qlora" and any(word in str(row.get("param_dtype")) for word in ("double", "dq")),
        fsdp="fsdp" in sharded,
        gpus=row.get("gpus"),
    )
    return subject, options


def _targets(names: Iterable[str], stack: str, subject: Model) -> tuple[str, ...]:
    """The modules with adapters; LitGPT's words for them as the class calls them."""
    if not stack.startswith("litgpt"):
        return tuple(names)
    roles = {group.role for group in subject.parameters.groups} if subject.parameters else set()
    roles.add("lm_head")
    wanted = [role for name in names for role in _LITGPT_MODULES.get(name, ())]
    return tuple(dict.fromkeys(role for role in wanted if role in roles))


def _accumulation(row: Row) -> int | None:
    """Micro-batches to a step, where the row's settings have more than one."""
    if not row["id"].startswith("litgpt-"):
        return None
    return _LITGPT_BATCH // (row["batch"] * (row.get("gpus") or 1)) if "Oct-2023" in row["framework"] else 2


_LITGPT_BATCH: Final = 128

_LITGPT_MODULES: Final = {
    "query": ("q_proj", "query_key_value"),
    "key": ("k_proj",),
    "value": ("v_proj",),
    "projection": ("o_proj", "dense"),
    "mlp": ("gate_proj", "up_proj", "down_proj", "fc1", "fc2", "dense_h_to_4h", "dense_4h_to_h"),
    "head": ("lm_head",),
}


_BASES: Final = {
    "google/gemma-2b": "google/gemma-2b-it",  # the same architecture
    "meta-llama/Llama-3.2-3B": "meta-llama/Llama-3.2-3B-Instruct",  # the same architecture
    "TheBloke/Mistral-7B-v0.1-GPTQ": "mistralai/Mistral-7B-v0.1",
    "TheBloke/Mixtral-8x7B-Instruct-v0.1-GPTQ": "mistralai/Mixtral-8x7B-Instruct-v0.1",
}


def _precision(row: Row) -> str:
    """As the row's dtypes say: autocast on weights of 16 bits is `bf16-autocast`; FSDP keeps what it trains in float32
    then (the rows' own notes: `end_alloc` is 16 B per parameter)."""
    if "autocast" not in str(row.get("compute_dtype")):
        return "bf16"
    if row["method"] == "full" and row.get("parallel"):
        return "autocast-bf16"
    return "fp16" if "fp16" in str(row["compute_dtype"]) else "bf16-autocast"


def table(found: Iterable[Comparison]) -> str:
    """Every row in a line, and the medians."""
    lines = []
    for item in found:
        name = str(item.row["id"])
        if item.reason:
            lines.append(f"{name:<70} tier {item.row['tier']}  left out: {item.reason}")
        else:
            numbers = f"{item.measured / GIB:8.3f} {item.ours / GIB:8.3f} {100 * item.error:+7.2f} %"
            lines.append(f"{name:<70} tier {item.row['tier']}  {numbers}  {item.row['method']:<10} {item.stack}")
    return "\n".join([*lines, "", *summary(found)])


def summary(found: Iterable[Comparison]) -> list[str]:
    """Median error and share within 5 %, by tier, method, model and stack."""
    done = [item for item in found if not item.reason]
    groups: list[tuple[str, Callable[[Comparison], str]]] = [
        ("tier", lambda item: str(item.row["tier"])),
        ("method", lambda item: str(item.row["method"])),
        ("stack", lambda item: item.stack),
        ("model", lambda item: str(item.row["model"])),
    ]
    lines = []
    for title, key in groups:
        for name in sorted({key(item) for item in done}):
            errors = [abs(item.error) for item in done if key(item) == name]
            lines.append(
                f"{title} {name}: {len(errors)} rows, median {100 * statistics.median(errors):.2f} %, "
                f"{sum(error <= 0.05 for error in errors)} within 5 %"
            )
    errors = between_steps(done)
    lines.append(
        f"between steps: {len(errors)} rows, median {100 * statistics.median(errors):.2f} %, "
        f"{sum(error <= 0.05 for error in errors)} within 5 %"
    )
    return lines


def between_steps(found: Iterable[Comparison]) -> list[float]:
    """Relative errors of what stays between steps, of the rows that have it."""
    return [abs(item.ours_between / item.between - 1) for item in found if item.between and not item.reason]


if __name__ == "__main__":
    print(table(compare()))
    print()
    print(training_reports.document())
