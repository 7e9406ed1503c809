"""Options from the files that people train with: transformers' `TrainingArguments` (and trl's), accelerate, DeepSpeed,
axolotl; YAML or JSON. Several are merged in their order. Every key is used, or named as ignored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from hfmem.errors import InvalidScenarioError, quoted
from hfmem.estimator.recipe.optimizers import find_optimizer
from hfmem.fetcher.files import read_text
from hfmem.options.option import declared
from hfmem.scenario.keys import BESIDE, Draft, Use, meanings
from hfmem.scenario.options import Options

__all__ = ["FromFiles", "with_file", "with_files"]

_LATER: Final = "overridden by what comes later"
_MOST_VALUES: Final = 20_000  # of a file; the longest known ones have some hundred
_LARGEST: Final = 2**20  # bytes; a training file is a few kilobytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FromFiles:
    """What training files say.

    Attributes:
        options: the options, with what the files say where they said nothing themselves.
        model, revision: the model that the files train; "" where they name none.
        named: the file and the key that name it, in words.
    """

    options: Options
    model: str = ""
    revision: str = ""
    named: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A key of a file with its value; later, what it set."""

    file: str
    name: str
    value: Any


def with_file(options: Options, path: Path) -> Options:
    """The options, with what one file says where they say nothing themselves; see `with_files`."""
    return with_files(options, (path,)).options


def with_files(options: Options, paths: Sequence[Path]) -> FromFiles:
    """The options, with what the files say where they say nothing themselves. They are merged in their order: a
    key that several have is read from the last of them.

    Raises:
        InvalidScenarioError: a file cannot be read, or a value in it cannot be.
    """
    entries, replaced = _merged(paths)
    keys = meanings(declared(type(options)))
    draft: Draft = {}
    done = [(entry, _use(entry, draft, keys)) for entry in entries]
    trainer = next((entry for entry, said in done if said is not None and entry.name.endswith(_TRAINER)), None)
    if trainer is not None and "optimizer" in draft:
        trainer = None
    if trainer is not None:
        draft["optimizer"] = "adamw-fused"
    told = {name: draft.pop(name, "") for name in ("model", "revision")}
    _settle(draft, options)
    table = {option.name: option for option in declared(type(options))}
    taken = {name: value for name, value in draft.items() if not table[name].asked(options)}
    remarks = [*_remarks(done, set(draft), set(taken), replaced)]
    if trainer is not None and "optimizer" in taken:
        remarks.append(
            f"{trainer.file}: no optim, which is adamw_torch_fused for TrainingArguments and PyTorch 2.8 or newer."
        )
    named = next((f"{entry.file}: {entry.name}" for entry, said in reversed(done) if said and "model" in said), "")
    found = replace(options, **taken, remarks=(*options.remarks, *remarks))
    return FromFiles(options=found, model=told["model"], revision=told["revision"], named=named)


def _merged(paths: Sequence[Path]) -> tuple[list[_Entry], list[_Entry]]:
    """Every key once, as the last file has it, and those that a later file replaces."""
    found: dict[str, _Entry] = {}
    replaced: list[_Entry] = []
    for path in paths:
        for name, value in _leaves(_read(path), path):
            earlier = found.pop(name, None)  # what is later is read later, and wins over other spellings too
            if earlier is not None and earlier.file != path.name:
                replaced.append(earlier)
            found[name] = _Entry(file=path.name, name=name, value=value)
    return list(found.values()), replaced


def _remarks(
    done: Sequence[tuple[_Entry, set[str] | None]], kept: set[str], taken: set[str], replaced: Sequence[_Entry]
) -> Iterator[str]:
    """What became of every key: used, given way to the command line or to a later file, or ignored."""
    outcomes: dict[tuple[str, str], list[str]] = {}
    last = {option: entry for entry, said in done for option in said or ()}
    for entry, said in done:
        ours = None if said is None else said - set(BESIDE)
        if ours is None or (ours and said == ours and not ours & kept):
            outcome = "ignored"
        elif said and all(last[option] is not entry for option in said):
            outcome = _LATER
        elif ours and said == ours and not ours & taken:
            outcome = "overridden by the command line"
        else:
            outcome = "used"
        outcomes.setdefault((entry.file, outcome), []).append(entry.name)
    for entry in replaced:
        outcomes.setdefault((entry.file, _LATER), []).append(entry.name)
    for outcome in ("used", _LATER, "overridden by the command line", "ignored"):
        for (file, kind), names in outcomes.items():
            if kind == outcome:
                yield f"{file}: {', '.join(names)} {'is' if len(names) == 1 else 'are'} {outcome}."


_TRAINER: Final = "per_device_train_batch_size"
"""A key that only `TrainingArguments` have."""


def _settle(draft: Draft, options: Options) -> None:
    """What several keys mean together, and beside the command line, which wins."""
    four, eight = draft.pop("four_bit", False), draft.pop("eight_bit", False)
    if four and draft.get("train") == "lora":
        draft["train"] = "qlora"
    train = options.train or draft.setdefault("train", "full")
    if eight and train == "lora":
        draft["dtype"] = "int8"
    for option in declared(type(options)):
        if option.option.train and train not in option.option.train:
            draft.pop(option.name, None)  # files keep what another method would take
    if draft.pop("deepspeed", False) and train == "full":
        # DeepSpeed's `"enabled": "auto"` follows the trainer's flag, and its weights are of 16 bits with others beside
        asked = draft.get("precision", "")
        if asked in ("trainer-bf16", "trainer-fp16"):
            draft["precision"] = f"{asked.removeprefix('trainer-')}-master"
    if draft.pop("unsharded", False):
        draft.pop("fsdp", None)
        draft.pop("offload", None)
    hosts, gpus = draft.pop("hosts", 1), draft.get("gpus", 1)
    if draft.pop("hybrid", False) and draft.get("fsdp") and hosts > 1 and gpus % hosts == 0:
        draft["shard"] = gpus // hosts
    _drop(draft, options)


def _drop(draft: Draft, options: Options) -> None:
    """Take out what files say and has no effect beside the rest."""
    if not (draft.get("fsdp") or draft.get("zero") or options.fsdp or options.zero):
        draft.pop("shard", None)
    if draft.get("tp", options.tp or 1) == 1:
        draft.pop("sequence_parallel", None)
    if draft.get("gradient_checkpointing"):
        draft.pop("selective_checkpointing", None)
    if not (options.precision or draft.get("precision", "trainer-")).startswith("trainer-"):
        draft.pop("dtype", None)  # the precision says what the weights are in
    row = find_optimizer(options.optimizer or draft.get("optimizer", ""))
    if row is not None and not row.rank:
        draft.pop("optimizer_rank", None)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = read_text(path, _LARGEST)
    except OSError as error:
        raise InvalidScenarioError("", f"--from-args {path} cannot be read: {error.strerror}") from None
    document = _parse(text, path)
    if not isinstance(document, dict):
        raise InvalidScenarioError("", f"--from-args {path} holds no mapping of keys to values")
    return document


def _parse(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass  # JSON is YAML but for tabs and numbers such as 1e8
    import yaml  # what huggingface_hub reads cards with; for these files only

    loader = None
    try:
        loader = yaml.SafeLoader(text)
        document = loader.get_single_node()
        if not _is_small(document):
            raise InvalidScenarioError(
                "", f"--from-args {path} holds more than {_MOST_VALUES:,} values, with its aliases"
            )
        return None if document is None else loader.construct_document(document)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise InvalidScenarioError("", f"--from-args {path} is neither JSON nor YAML") from None
    finally:
        if loader is not None:
            loader.dispose()


def _is_small(document: Any) -> bool:
    """Whether a YAML document has few values, one that an alias names counted each time: some lines of aliases of
    aliases stand for billions of them. One that holds itself has no end."""
    left = [document]
    for _ in range(_MOST_VALUES):
        if not left or len(left) > _MOST_VALUES:
            break
        inner = getattr(left.pop(), "value", None)  # the parts of a list, pairs of a mapping, or a text
        if isinstance(inner, list):
            left += (node for part in inner for node in (part if isinstance(part, tuple) else (part,)))
    return not left


def _leaves(document: Mapping[str, Any], path: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Every key with its value; inner mappings as `outer.inner`, and so a DeepSpeed file where it is named."""
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and value and depth < 3:
            yield from _leaves(value, path, f"{name}.", depth + 1)
        elif key in ("deepspeed", "deepspeed_config_file") and isinstance(value, str) and depth < 3:
            beside = path.parent / value
            inner = beside if beside.exists() else Path(value)
            yield from _leaves(_read(inner), inner, f"{name}.", depth + 1)
        else:
            yield name, value


def _use(entry: _Entry, draft: Draft, keys: Mapping[str, Use]) -> set[str] | None:
    """What the key sets; None where it says nothing here."""
    name, value = entry.name, entry.value
    if value is None or value == {} or (value == "auto" and name not in ("bf16", "fp16")):
        return None
    use = keys.get(name) or keys.get(name.rpartition("deepspeed.")[2]) or keys.get(name.rpartition(".")[2])
    before = dict(draft)
    try:
        if use is None or not use(draft, value):
            return None
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise InvalidScenarioError("", f"--from-args: '{name}' cannot be {quoted(str(value))}") from None
    return {option for option in draft if option not in before or draft[option] != before[option]}
