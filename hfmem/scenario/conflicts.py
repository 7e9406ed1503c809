"""Contradictions between keys of training files that the trainer rejects."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from hfmem.refusals.files import KeyConflictError, Setting

__all__ = ["refuse_conflicts"]


class Entry(Protocol):
    """A key of a file with its value, and whether it is one of DeepSpeed's."""

    @property
    def file(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> Any: ...
    @property
    def deepspeed(self) -> bool: ...


_EQUAL: Final = (
    (("per_device_train_batch_size", "micro_batch_size"), "train_micro_batch_size_per_gpu", "batch"),
    (("gradient_accumulation_steps",), "gradient_accumulation_steps", "gradient_accumulation"),
    (("bf16",), "bf16.enabled", "precision"),
    (("fp16",), "fp16.enabled", "precision"),
)
"""Key of the trainers, key of DeepSpeed, and the option that both set (`trainer_config_process` of transformers
5.24.0's integrations/deepspeed.py raises if they differ)."""

_EXCLUSIVE: Final = ("bf16", "fp16")
"""Mutually exclusive (`_validate_args` of transformers 5.24.0's training_args.py; config.py of DeepSpeed)."""


def refuse_conflicts(entries: Iterable[Entry], asked: Collection[str]) -> None:
    """Reject contradictions that the software rejects, unless the command line sets the option (`asked`).

    Raises:
        KeyConflictError: two keys contradict each other.
    """
    entries = tuple(entries)
    trainer = {entry.name: entry for entry in entries if not entry.deepspeed}
    deepspeed = {_plain(entry.name): entry for entry in entries if entry.deepspeed}
    for option, error in (*_unequal(trainer, deepspeed), *_both(trainer, deepspeed)):
        if option not in asked:
            raise error


def _plain(name: str) -> str:
    """A key of DeepSpeed without its section."""
    root, _, rest = name.partition(".")
    return rest if root in ("deepspeed", "deepspeed_config") else name


_Found = Iterator[tuple[str, KeyConflictError]]
"""The option that two keys set, and the error."""


def _unequal(trainer: Mapping[str, Entry], deepspeed: Mapping[str, Entry]) -> _Found:
    for names, theirs, option in _EQUAL:
        for name in names:
            ours, other = trainer.get(name), deepspeed.get(theirs)
            if ours is not None and other is not None and _differ(ours.value, other.value):
                yield option, KeyConflictError(_setting(ours), _setting(other), equal=True)


def _both(trainer: Mapping[str, Entry], deepspeed: Mapping[str, Entry]) -> _Found:
    on = {
        word: [
            entry for entry in (trainer.get(word), deepspeed.get(f"{word}.enabled")) if entry and entry.value is True
        ]
        for word in _EXCLUSIVE
    }
    for first in on["bf16"]:
        for second in on["fp16"]:
            yield "precision", KeyConflictError(_setting(first), _setting(second), equal=False)


def _differ(ours: Any, theirs: Any) -> bool:
    """Whether both values are set and differ; words such as axolotl's `auto` do not count as set."""
    kinds = (bool, int, float)
    return isinstance(ours, kinds) and isinstance(theirs, kinds) and ours != theirs


def _setting(entry: Entry) -> Setting:
    return Setting(entry.file, entry.name, entry.value)
