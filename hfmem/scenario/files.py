"""Options from training files in YAML or JSON: transformers' `TrainingArguments` (and trl's), accelerate, DeepSpeed,
axolotl, LLaMA-Factory. Several files are merged in order. Each key is used, or reported with the reason why not."""

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
_MOST_VALUES: Final = 20_000  # per file; the longest known ones have a few hundred
_LARGEST: Final = 2**20  # bytes; a training file is a few kilobytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FromFiles:
    """The contents of training files.

    Attributes:
        options: the options, with those from the files for options that the user did not set.
        model, revision: the model that the files train; "" if they name none.
        named: the file and the key that name it, for sentences.
    """

    options: Options
    model: str = ""
    revision: str = ""
    named: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A key of a file with its value.

    Attributes:
        deepspeed: whether DeepSpeed reads it instead of the trainer.
    """

    file: str
    name: str
    value: Any
    deepspeed: bool


@dataclass(slots=True, kw_only=True)
class _Merged:
    """Each key once, with the value of the last file; DeepSpeed's keys come after those of the trainer, which they
    supplement.

    Attributes:
        entries: these keys.
        replaced: keys that a later file replaces.
        left: keys with the value `auto`, which leaves them to other files.
        names: the keys of each file.
    """

    entries: tuple[_Entry, ...] = ()
    replaced: list[_Entry] = field(default_factory=list)
    left: list[_Entry] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """The effect of a key.

    Attributes:
        understood: whether its value is understood.
        wrote: what it set.
        off: switches that it leaves off.
    """

    entry: _Entry
    understood: bool
    wrote: Mapping[str, Any]
    off: frozenset[str]


def with_file(options: Options, path: Path) -> Options:
    """The options, supplemented by one training file; see `with_files`."""
    return with_files(options, (path,)).options


def with_files(options: Options, paths: Sequence[Path], given: Collection[str] = ()) -> FromFiles:
    """The options, supplemented by training files. The files are merged in order: the last one with a key counts, but
    `"auto"` leaves the key to the others.

    Args:
        options: the user's other options, which take precedence.
        paths: the files.
        given: options that the user has set to their default value.

    Raises:
        InvalidScenarioError: a file cannot be read, has an invalid value, or its software would reject it.
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
            earlier = found.pop(
                (name, entry.deepspeed), None
            )  # moved to the end, so that it also takes precedence over other keys for the same option
            if earlier is not None and earlier.file != path.name:
                merged.replaced.append(earlier)
            found[name, entry.deepspeed] = entry
    merged.entries = tuple(sorted(found.values(), key=lambda entry: entry.deepspeed))
    return merged


def _outcome(
    said: _Said, written: Mapping[str, Any], settled: Settled, taken: Collection[str], asked: Collection[str]
) -> str:
    """The outcome of a key: used, overridden by the command line or a later key, or ignored."""
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
    """Sentences with the keys, grouped by file and outcome."""
    names: dict[tuple[str, str], list[str]] = {}
    for entry, outcome in outcomes:
        names.setdefault((entry.file, outcome), []).append(entry.name)
    for outcome in ("used", _LATER, _LINE, _LEFT, "ignored"):
        for (file, kind), keys in names.items():
            if kind == outcome:
                yield f"{file}: {', '.join(keys)} {'is' if len(keys) == 1 else 'are'} {outcome}."


def _defaults(software: Software | None, file: str, settled: Settled) -> Iterator[str]:
    """Sentences on defaults of the software for keys that the files omit."""
    if software is not None and settled.defaults:
        told = ", ".join(f"{default.key} {default.shown}" for default in settled.defaults)
        yield f"{file}: defaults of {software.title} for the keys that it omits: {told}."


_OF_ADAPTERS: Final = re.compile(r"(^|[._])(peft|q?lora|adapters?|tuner|finetun\w*|4bit|8bit|quantization)(?=$|[._])")


def _method(outcomes: Sequence[tuple[_Entry, str]], settled: Settled, train: str) -> Iterator[str]:
    """A sentence if a key suggests another training method than the one assumed."""
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
        pass  # YAML; JSON comes first, as it is YAML except for tabs and numbers such as 1e8
    import yaml  # a dependency of huggingface_hub; only training files need it here

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
    """Whether a YAML document has few values, with aliases expanded: a few lines of nested aliases can expand to
    billions of values, and a recursive alias never ends."""
    left = [document]
    for _ in range(_MOST_VALUES):
        if not left or len(left) > _MOST_VALUES:
            break
        inner = getattr(left.pop(), "value", None)  # the items of a list, the pairs of a mapping, or a string
        if isinstance(inner, list):
            left += (node for part in inner for node in (part if isinstance(part, tuple) else (part,)))
    return not left


def _leaves(document: Mapping[str, Any], path: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """All keys with their values; nested keys as `outer.inner`, also those of a DeepSpeed file that the file names."""
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
    """Apply a key to the draft, and return its effect."""
    draft.wrote, draft.off = {}, set()
    understood = _understood(entry, draft, keys)
    wrote = dict(draft.wrote) if understood else {}
    return _Said(entry=entry, understood=understood, wrote=wrote, off=frozenset(draft.off))


def _understood(entry: _Entry, draft: Draft, keys: Mapping[str, Use]) -> bool:
    """Apply a key; whether its value is understood."""
    name, value = entry.name, entry.value
    if value is None or value in ({}, ""):
        return False
    use = keys.get(name) or keys.get(name.rpartition("deepspeed.")[2]) or keys.get(name.rpartition(".")[2])
    try:
        return use is not None and use(draft, value)
    except (TypeError, ValueError, AttributeError, OverflowError):
        raise KeyValueError(name, value) from None
