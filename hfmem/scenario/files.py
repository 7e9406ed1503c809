"""Options from the files that people train with: transformers' `TrainingArguments` (and trl's), accelerate, DeepSpeed,
axolotl, LLaMA-Factory; YAML or JSON. Several are merged in their order. Every key is used, or named with what became of
it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from hfmem.fetcher.files import read_text
from hfmem.options.option import declared
from hfmem.refusals.files import KeyValueError, TrainingFileError, UnreadableFileError
from hfmem.scenario.conflicts import refuse_conflicts
from hfmem.scenario.keys import METHODS, OWN_AUTO, Draft, Use, meanings
from hfmem.scenario.options import Options
from hfmem.scenario.settle import Settled, settle
from hfmem.scenario.software import Software, inside_deepspeed, is_deepspeed, software_of

__all__ = ["FromFiles", "with_file", "with_files"]

_LATER: Final = "overridden by a later file"
_LINE: Final = "overridden by the command line"
_LEFT: Final = "left to the trainer (auto)"
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
    """A key of a file with its value.

    Attributes:
        deepspeed: whether DeepSpeed reads it, and not the trainer.
    """

    file: str
    name: str
    value: Any
    deepspeed: bool


@dataclass(slots=True, kw_only=True)
class _Merged:
    """Every key once, as the last file has it, DeepSpeed's behind those of the trainer, which it fills in.

    Attributes:
        entries: these keys.
        replaced: those that a later file replaces.
        left: those whose `auto` leaves them to the others.
        names: the keys of each file.
    """

    entries: tuple[_Entry, ...] = ()
    replaced: list[_Entry] = field(default_factory=list)
    left: list[_Entry] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What a key said.

    Attributes:
        understood: whether it says anything here.
        wrote: what it set.
        off: switches that it leaves off.
    """

    entry: _Entry
    understood: bool
    wrote: Mapping[str, Any]
    off: frozenset[str]


def with_file(options: Options, path: Path) -> Options:
    """The options, with what one file says where they say nothing themselves; see `with_files`."""
    return with_files(options, (path,)).options


def with_files(options: Options, paths: Sequence[Path], given: Collection[str] = ()) -> FromFiles:
    """The options, with what the files say where they say nothing themselves. They are merged in their order: a
    key that several have is read from the last of them; `"auto"` leaves it to the others.

    Args:
        options: what is asked beside the files, which wins.
        paths: the files.
        given: options that are asked although they have their default value.

    Raises:
        InvalidScenarioError: a file cannot be read, a value in it cannot be, or its software would refuse it.
    """
    table = declared(type(options))
    asked = {option.name for option in table if option.asked(options) or option.name in given}
    merged = _merged(paths)
    refuse_conflicts(merged.entries, asked)
    keys, draft = meanings(table), Draft()
    done = [_use(entry, draft, keys) for entry in merged.entries]
    written = dict(draft)
    told = {name: draft.pop(name, "") for name in ("model", "revision")}
    software, file = software_of(merged.names)
    settled = settle(
        draft, options, asked, software, {said.entry.name for said in done if said.entry.value is not None}
    )
    taken = {name: value for name, value in draft.items() if name not in asked}
    outcomes = [(said.entry, _outcome(said, written, settled, taken, asked)) for said in done]
    remarks = [
        *_remarks([*outcomes, *((entry, _LATER) for entry in merged.replaced), *((e, _LEFT) for e in merged.left)]),
        *_defaults(software, file, settled),
        *(_method(outcomes, settled, draft["train"]) if options.train is None else ()),
    ]
    named = next((f"{said.entry.file}: {said.entry.name}" for said in reversed(done) if "model" in said.wrote), "")
    found = replace(options, **taken, remarks=(*options.remarks, *remarks))
    return FromFiles(options=found, model=told["model"], revision=told["revision"], named=named)


def _merged(paths: Sequence[Path]) -> _Merged:
    merged, found = _Merged(), dict[tuple[str, bool], _Entry]()
    for path in paths:
        leaves = list(_leaves(_read(path), path))
        names = [name for name, _ in leaves]
        merged.names.setdefault(path.name, []).extend(names)
        whole = is_deepspeed(names)
        for name, value in leaves:
            entry = _Entry(file=path.name, name=name, value=value, deepspeed=whole or inside_deepspeed(name))
            if value == "auto" and name.rpartition(".")[2] not in OWN_AUTO:
                merged.left.append(entry)
                continue
            earlier = found.pop((name, entry.deepspeed), None)  # what is later is read later, and wins over others too
            if earlier is not None and earlier.file != path.name:
                merged.replaced.append(earlier)
            found[name, entry.deepspeed] = entry
    merged.entries = tuple(sorted(found.values(), key=lambda entry: entry.deepspeed))
    return merged


def _outcome(
    said: _Said, written: Mapping[str, Any], settled: Settled, taken: Collection[str], asked: Collection[str]
) -> str:
    """What became of a key: used, given way to the command line or to a later key, or ignored."""
    if not said.understood:
        return "ignored"
    if not said.wrote:
        return _LINE if said.off.intersection(asked) else "used"
    live = {option for option, value in said.wrote.items() if option in written and written[option] == value}
    if not live:
        return _LATER
    if live.intersection(taken) or live & settled.worked:
        return "used"
    return _LINE if live.intersection(asked) or live & settled.gave else "ignored"


def _remarks(outcomes: Iterable[tuple[_Entry, str]]) -> Iterator[str]:
    """The keys by file and by what became of them."""
    names: dict[tuple[str, str], list[str]] = {}
    for entry, outcome in outcomes:
        names.setdefault((entry.file, outcome), []).append(entry.name)
    for outcome in ("used", _LATER, _LINE, _LEFT, "ignored"):
        for (file, kind), keys in names.items():
            if kind == outcome:
                yield f"{file}: {', '.join(keys)} {'is' if len(keys) == 1 else 'are'} {outcome}."


def _defaults(software: Software | None, file: str, settled: Settled) -> Iterator[str]:
    """What the software does where the files say nothing."""
    if software is not None and settled.defaults:
        told = ", ".join(f"{default.key} {default.shown}" for default in settled.defaults)
        yield f"{file}: defaults of {software.title} for the keys that it omits: {told}."


_OF_ADAPTERS: Final = re.compile(r"(^|[._])(peft|q?lora|adapters?|tuner|finetun\w*|4bit|8bit|quantization)(?=$|[._])")


def _method(outcomes: Sequence[tuple[_Entry, str]], settled: Settled, train: str) -> Iterator[str]:
    """A sentence where a key may say that something else is trained than what is taken."""
    names: dict[str, list[str]] = {}
    for entry, outcome in outcomes:
        if outcome != "ignored" or entry.value in (None, False, {}, ""):
            continue
        method = entry.name in METHODS or entry.name.rpartition(".")[2] in METHODS
        if method or (settled.assumed and _OF_ADAPTERS.search(entry.name)):
            names.setdefault(entry.file, []).append(entry.name)
    for file, keys in names.items():
        yield (
            f"{file}: {', '.join(keys)} {'does' if len(keys) == 1 else 'do'} not say here what is trained: "
            f"--train {train} is assumed; use --train full, lora or qlora to choose."
        )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = read_text(path, _LARGEST)
    except OSError as error:
        raise UnreadableFileError("--from-args", path, error.strerror) from None
    document = _parse(text, path)
    if not isinstance(document, dict):
        raise TrainingFileError(path, "mapping")
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
            raise TrainingFileError(path, "size", most=_MOST_VALUES)
        return None if document is None else loader.construct_document(document)
    except (yaml.YAMLError, RecursionError, ValueError):
        raise TrainingFileError(path, "syntax") from None
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


def _use(entry: _Entry, draft: Draft, keys: Mapping[str, Use]) -> _Said:
    """What the key says; it is put into the draft."""
    draft.wrote, draft.off = {}, set()
    understood = _understood(entry, draft, keys)
    wrote = dict(draft.wrote) if understood else {}
    return _Said(entry=entry, understood=understood, wrote=wrote, off=frozenset(draft.off))


def _understood(entry: _Entry, draft: Draft, keys: Mapping[str, Use]) -> bool:
    """Whether the key says anything."""
    name, value = entry.name, entry.value
    if value is None or value in ({}, ""):
        return False
    use = keys.get(name) or keys.get(name.rpartition("deepspeed.")[2]) or keys.get(name.rpartition(".")[2])
    try:
        return use is not None and use(draft, value)
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise KeyValueError(name, value) from None
