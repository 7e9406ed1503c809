"""Reads a file of measurements: the log of a server, statistics or a snapshot of PyTorch's allocator, metrics of
transformers' Trainer, or what nvidia-smi prints."""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from hfmem.against.lines import Found, found_in, logs
from hfmem.against.plain import plain
from hfmem.against.torch_stats import may_be_statistics, statistics
from hfmem.against.values import Fact, Log, Reading
from hfmem.refusals.against import LogError
from hfmem.units import MIB

__all__ = ["read_log"]

_MOST: Final = 64 * MIB  # bytes of a file of statistics
_HEAD: Final = 4096  # bytes that tell what a file is
_LONGEST: Final = 20_000  # characters of a line; a line of settings has some thousands
_FIGURES: Final = 2000  # characters of a line in which figures stand
_HOSTS: Final = ("CPU", "host", "Host", "BLAS", "AARCH64")
_CLOSE: Final = 0.005  # ranks that are further apart differ


def read_log(path: Path) -> Log:
    """What a file says.

    Raises:
        LogError: it cannot be read, or has no line that is known.
    """
    try:
        with path.open("rb") as stream:
            return _read(path.name, stream)
    except OSError as error:
        raise LogError(path.name, "unreadable", system=error.strerror or type(error).__name__) from None


def _read(name: str, stream: BinaryIO) -> Log:
    head = stream.read(_HEAD)
    if may_be_statistics(head):
        found = statistics(name, head + stream.read(_MOST - len(head)))
        if found is not None:
            return found
    wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in head and not wide:
        raise LogError(name, "binary")
    stream.seek(0)
    return _of_lines(name, _lines(TextIOWrapper(stream, encoding="utf-16" if wide else "utf-8", errors="replace")))


def _lines(stream: TextIO) -> Iterator[str]:
    """The lines of a log of any length, one at a time; of longer ones the beginning."""
    while text := stream.readline(_LONGEST):
        yield text
        while text and not text.endswith("\n"):
            text = stream.readline(_LONGEST)


_NUMBERS: Final = re.compile(r"(?<!\w)(?:[0-9a-f-]{16,}|\d+)")
"""Numbers and identifiers of requests. Digits within a word stay, as `float16` is none."""

_MOST_ALIKE: Final = 1 << 14


@dataclass(slots=True)
class _Start:
    """What was read since a server started."""

    found: list[Found] = field(default_factory=list)
    settings: dict[str, dict[str, str]] = field(default_factory=dict)
    facts: set[Fact] = field(default_factory=set)


def _of_lines(name: str, lines: Iterable[str]) -> Log:
    """What the last start of a log says.

    Raises:
        LogError: no line is known, or those of several programs are mixed.
    """
    start, starts, blank = _Start(), 0, True
    silent: set[int] = set()  # hashes of lines that say nothing: those of requests are alike but for numbers
    for number, line in enumerate(lines, 1):
        text = plain(line.rstrip("\r\n"))
        blank = blank and not text.strip()
        if any(each.starts.search(text) for each in logs().values()) and any(
            found.what == "weights" for found in start.found
        ):
            start, starts = _Start(), starts + 1
        _facts(text, start.facts)
        alike = hash(_NUMBERS.sub("0", text))
        if alike not in silent and not _says(text, number, start) and len(silent) < _MOST_ALIKE:
            silent.add(alike)
    if not start.found:
        raise LogError(name, "empty" if blank else "unknown")
    programs = Counter(found.software for found in start.found)
    software = _software(programs)
    if software is None:
        raise LogError(name, "mixed", programs=sorted(programs))
    start.facts |= {"several_starts"} if starts else set()
    return _summed(name, software, start)


def _summed(name: str, software: str, start: _Start) -> Log:
    """What a start of a program says."""
    readings, facts = _readings(_own(start.found, software), software)
    settings = dict(start.settings.get(software, {}))
    typed = _typed({name: value for name, value in settings.items() if name != "model"})
    if software in logs():
        typed |= logs()[software].derive(typed)
    return Log(
        name=name,
        software=software,
        version=settings.get(f"{software}_version", ""),
        model=settings.get("model", ""),
        settings={name: value for name, value in typed.items() if value is not None},
        broken=tuple(name for name, value in typed.items() if value is None),
        readings=tuple(readings),
        facts=tuple(sorted(facts | start.facts)),
    )


def _says(text: str, number: int, start: _Start) -> bool:
    """Add the figures and settings of a line; whether there are any."""
    found = list(found_in(text[:_FIGURES], number))
    start.found += found
    return _settings(text, start.settings) or bool(found)


def _software(programs: Counter[str]) -> str | None:
    """The program whose lines these are; None where several servers are mixed. A server's log may have what nvidia-smi
    prints, which it then is held against too; and one server may run another."""
    servers = [name for name in programs if name in logs()]
    outer = [name for name in servers if logs()[name].runs in servers] or servers
    if len({*servers} - {logs()[name].runs for name in outer}) > 1:
        return None
    return outer[0] if outer else programs.most_common(1)[0][0]


def _own(found: Iterable[Found], software: str) -> list[Found]:
    """The figures of a program, or of the one that it runs, which are exact."""
    runs = logs()[software].runs if software in logs() else ""
    inner = [each for each in found if runs and each.software == runs]
    return inner or [each for each in found if each.software == software]


def _settings(text: str, known: dict[str, dict[str, str]]) -> bool:
    """Add the settings that a line states; the first value counts, as later lines may be of requests. Whether there are
    any."""
    states = False
    for software, known_lines in logs().items():
        for option, pattern in known_lines.settings:
            match = pattern.search(text)
            if match is not None:
                known.setdefault(software, {}).setdefault(option, match[1])
                states = True
    return states


_FACTS: Final[tuple[tuple[str, Fact], ...]] = (
    ("enable_lora=True", "adapters"),
    ("'enable_lora': True", "adapters"),
    ("lora_paths=[", "adapters"),
    ("speculative_algorithm='", "drafts"),
    ("SpeculativeConfig(method", "drafts"),
    ("SWAKVPool", "hybrid"),
    ("Mamba Cache is allocated", "hybrid"),
    ("GB10", "whole_machine"),
)


def _facts(text: str, facts: set[Fact]) -> None:
    facts.update(fact for word, fact in _FACTS if word in text)


def _readings(found: list[Found], software: str) -> tuple[list[Reading], set[Fact]]:
    """One reading of a kind: of several devices those of the fullest, of several ranks the largest."""
    facts: set[Fact] = set()
    kept = [each for each in found if each.value >= 0]
    if len(kept) < len(found):
        facts.add("negative")
    by_device = list(_of_device(kept))
    if by_device:
        return by_device, facts
    readings = []
    for what in dict.fromkeys(each.what for each in kept):
        values = [each for each in kept if each.what == what]
        if what == "pool" and software in logs() and logs()[software].adds_pools:
            values = _pools(values)
        largest = max(values, key=lambda each: each.value)
        if min(each.value for each in values) < largest.value * (1 - _CLOSE):
            facts.add("ranks")
        readings.append(Reading(what=what, value=largest.value, line=largest.line, least=largest.least))
        facts |= {"out_of_memory"} if largest.least else set()
    readings += _per_token(readings, facts)
    return readings, facts


def _pools(values: list[Found]) -> list[Found]:
    """A server may print a line for the pool of each kind of layer and one for both: the last is their sum."""
    largest = max(values, key=lambda each: each.value)
    return [largest]


def _per_token(readings: list[Reading], facts: set[Fact]) -> Iterator[Reading]:
    """Bytes of a token, where a log has the pool's bytes and tokens."""
    known = {reading.what: reading for reading in readings}
    if "pool" in known and "tokens" in known and known["tokens"].value > 0 and "states" not in known:
        value = known["pool"].value / known["tokens"].value
        yield Reading(what="per_token", value=value, line=known["tokens"].line)
    elif "states" in known:
        facts.add("hybrid")


def _of_device(found: list[Found]) -> Iterator[Reading]:
    """The sums of the fullest device."""
    sums: dict[str, dict[str, float]] = {}
    lines: dict[str, int] = {}
    for each in found:
        if each.device:
            kinds = sums.setdefault(each.device, {})
            kinds[each.what] = each.value + (0 if each.last else kinds.get(each.what, 0))
            lines[each.what] = each.line
    devices = [name for name in sums if not name.startswith(_HOSTS) and not name.endswith(_HOSTS)]
    if not sums:
        return
    fullest = max(devices or list(sums), key=lambda name: sum(sums[name].values()))
    whats = {each.what for each in found if each.device == fullest}
    for what in sorted(whats):
        yield Reading(what=what, value=sums[fullest][what], line=lines[what])


def _typed(settings: Mapping[str, str]) -> dict[str, object]:
    """Settings as values of options; None for what is none."""
    return {name: value if name.endswith("_version") else _value(value) for name, value in settings.items()}


def _value(text: str) -> object:
    if text in ("True", "False", "true", "false"):
        return text in ("True", "true")
    if text.startswith("{"):
        try:
            return json.dumps(ast.literal_eval(text))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return _number(text) if re.fullmatch(r"[-\d.]+", text) else text


def _number(text: str) -> float | int | None:
    try:
        return float(text) if "." in text else int(text)
    except ValueError:  # several points, or more digits than Python takes
        return None
