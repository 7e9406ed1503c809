"""The trainers of TRL, one row each: what a step of each runs besides a plain Trainer's, and its defaults.

All lines are of TRL 1.16.0 with transformers 5.24.0; `docs/trl.md` explains them. To add a trainer: a row here, its
word in `hfmem.options.words`, and steps of it in `tests/oracle/trl_cases.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["TRAINERS", "Head", "Reference", "Trainer", "Tuning", "find_trainer"]

Head = Literal["fused", "logits", "classes"]
"""How the head runs: in tiles without logits, with logits of all positions, or as one score per row."""

Reference = Literal["none", "copy", "adapters off"]
"""The reference model: none, a copy of the policy, or the policy itself with its adapters switched off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainer:
    """A trainer.

    Attributes:
        name: its value of `--train`.
        title: its class.
        rows: rows of a forward pass per unit of `--batch`.
        least: the smallest batch that it takes.
        seq: default tokens of a row; 0 where the trainer has no limit.
        completion: default tokens of a completion; 0 if all tokens of a row may be scored.
        head: how its head runs.
        reference: when the reference model runs: never, while the policy's graph is alive, or before there is one.
        beta: default weight of the KL term; where the reference runs `before`, 0 means that there is none.
        generations: completions per prompt; 0 if nothing is generated.
        losses: its losses.
        loss: the default one.
        source: where all this is written.
    """

    name: str
    title: str
    rows: int = 1
    least: int = 1
    seq: int = 1024
    completion: int = 0
    head: Head = "fused"
    reference: Literal["never", "after", "before"] = "never"
    beta: float = 0.0
    generations: int = 0
    losses: tuple[str, ...] = ()
    loss: str = ""
    source: str

    @property
    def online(self) -> bool:
        """Whether a step begins by generating."""
        return self.generations > 0


TRAINERS: Final[tuple[Trainer, ...]] = (
    Trainer(
        name="sft",
        title="SFTTrainer",
        losses=("nll", "chunked_nll", "dft"),
        loss="nll",
        source="trl 1.16.0, sft_config.py:202 (max_length), 283 (loss_type), sft_trainer.py:1144 (fused head)",
    ),
    Trainer(
        name="dpo",
        title="DPOTrainer",
        rows=2,
        reference="after",
        beta=0.1,
        losses=(
            *("sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot"),
            *("aot_unpaired", "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"),
        ),
        loss="sigmoid",
        source="trl 1.16.0, dpo_config.py:195 (max_length), 297 (beta), dpo_trainer.py:957-962 (fused head), "
        "1299-1338 (policy, then reference)",
    ),
    Trainer(
        name="kto",
        title="KTOTrainer",
        least=2,
        reference="after",
        beta=0.1,
        losses=("kto", "apo_zero_unpaired"),
        loss="kto",
        source="trl 1.16.0, kto_config.py:166 (max_length), 205 (beta), kto_trainer.py:844 (batch), 1370-1440",
    ),
    Trainer(
        name="grpo",
        title="GRPOTrainer",
        seq=0,
        completion=512,
        reference="before",
        generations=8,
        losses=("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo"),
        loss="dapo",
        source="trl 1.16.0, grpo_config.py:480 (num_generations), 494 (max_completion_length), 681 (beta), "
        "grpo_trainer.py:1068-1076 (fused head), 1863 (generation), 2710 (reference)",
    ),
    Trainer(
        name="rloo",
        title="RLOOTrainer",
        seq=0,
        completion=512,
        reference="before",
        beta=0.05,
        generations=2,
        source="trl 1.16.0, rloo_config.py:301 (num_generations), 315 (max_completion_length), 502 (beta), "
        "rloo_trainer.py:716-722 (fused head)",
    ),
    Trainer(
        name="reward",
        title="RewardTrainer",
        rows=2,
        head="classes",
        source="trl 1.16.0, reward_config.py:144 (max_length), reward_trainer.py:396-400 (sequence classification, "
        "one label), 778-790 (loss)",
    ),
)

_BY_NAME: Final = {row.name: row for row in TRAINERS}


def find_trainer(name: str | None) -> Trainer | None:
    """The trainer of this name; None if TRL has none, as for `full`, `lora` and `qlora`."""
    return _BY_NAME.get(name or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """A trainer's own settings, with every open option resolved.

    Attributes:
        trainer: the trainer.
        completion: tokens of a row that are scored and, if it generates, generated.
        head: how the head runs.
        reference: the reference model.
        divergence: whether forward passes without gradient estimate the KL term (KTO's).
        loss: the loss.
        beta: the weight of the KL term.
        generations: completions per prompt; 0 if nothing is generated.
        vllm: where vLLM generates: `colocate` on the same accelerators, `server` on others; None without vLLM.
        share: vLLM's share of the accelerator, if it runs there.
        sleeps: whether vLLM frees its memory while the policy is trained.
    """

    trainer: Trainer
    completion: int
    head: Head = "fused"
    reference: Reference = "none"
    divergence: bool = False
    loss: str = ""
    beta: float = 0.0
    generations: int = 0
    vllm: Literal["colocate", "server"] | None = None
    share: float = 0.3
    sleeps: bool = False
