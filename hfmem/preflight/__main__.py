"""`hfmem-check FILE… --gpu NAME`: reads its words, asks, prints, and leaves with the worst exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from hfmem.cli import table
from hfmem.errors import InvalidScenarioError
from hfmem.preflight.lines import Question, launch_lines, question
from hfmem.preflight.summary import markdown, text
from hfmem.preflight.verdict import Verdict, verdict
from hfmem.report.errors import explain

__all__ = ["main"]

HELP: Final = """\
Usage: hfmem-check [FILE...] [--line LINE] --gpu NAME [OPTIONS of hfmem]

Whether what is about to be started fits on an accelerator: training files (YAML, JSON) that name
their model, and launch lines of `vllm serve`, SGLang or `llama-server` in other files.

  --line LINE     A launch line to check. Can be repeated.
  --ignore NAME   An option of launch lines that takes no memory. Can be repeated.
  --summary FILE  Append the answer to a file, as Markdown.

Everything else is an option of hfmem: --gpu, --gpus, --batch, --seq, --reserve, ... (hfmem --help-all).
The exit code is 0 if everything fits, 1 if something could not be checked, 2 for wrong usage, and 3
if something does not fit.
"""
FAILED, USAGE = 1, 2
_TRAINING: Final = {".yaml", ".yml", ".json"}


@dataclass(slots=True)
class _Given:
    """The words of the command, sorted."""

    files: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    ignore: list[str] = field(default_factory=list)
    summary: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)


def main() -> None:
    """Run the command and end the process."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """The exit code of the command with these words."""
    if not words or {"-h", "--help"} & set(words):
        print(HELP, end="")
        return 0 if words else USAGE
    given = _given(words)
    if not any(word.startswith("--gpu") for word in given.options):
        print("Name an accelerator with --gpu, as in --gpu H100; hfmem --list-gpus shows all.", file=sys.stderr)
        return USAGE
    verdicts = [each for name in given.files for each in _of_file(name, given)]
    verdicts += [_of_line(line, given) for line in given.lines]
    if not verdicts:
        print("Nothing to check: no training file, and no launch line.")
        return 0
    print(text(verdicts))
    for path in given.summary:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(markdown(verdicts))
    codes = {each.code for each in verdicts}
    return next((code for code in (USAGE, FAILED) if code in codes), max(codes))


def _given(words: Sequence[str]) -> _Given:
    """Sort the words: an option of hfmem keeps its value, what is no option is a file."""
    given, takes_value = _Given(), _with_value()
    own = {"--line": given.lines, "--ignore": given.ignore, "--summary": given.summary}
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        name, equals, value = word.partition("=")
        if name in own:
            own[name].append(value if equals else rest.pop() if rest else "")
        elif word.startswith("-") and word != "-":
            given.options.append(word)
            if not equals and name in takes_value and rest:
                given.options.append(rest.pop())
        else:
            given.files.append(word)
    return given


def _with_value() -> set[str]:
    """The names of the options of hfmem that take a value."""
    return {flag for option in table() if option.kind is not bool for flag in option.flags}


def _of_file(name: str, given: _Given) -> list[Verdict]:
    path = Path(name)
    if path.suffix.lower() in _TRAINING:
        return [verdict(Question(name=name, words=("--from-args", name)), given.options)]
    try:
        lines = list(launch_lines(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        asked = Question(name=name, words=())
        return [Verdict(question=asked, code=FAILED, problems=(f"cannot be read: {reason}",))]
    return [_of_line(line, given) for line in lines]


def _of_line(line: str, given: _Given) -> Verdict:
    try:
        asked = question(line, given.ignore)
    except InvalidScenarioError as error:
        return Verdict(question=Question(name=line, words=()), code=FAILED, problems=(explain(error).message,))
    return verdict(asked, given.options)


if __name__ == "__main__":
    main()
