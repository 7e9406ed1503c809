"""What `hfmem` answers to a question, from its JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hfmem.preflight.lines import Question

__all__ = ["Verdict", "verdict"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer to a question.

    Attributes:
        question: what was asked.
        code: the exit code of `hfmem`: 0 it fits, 1 it failed, 2 the question is wrong, 3 it does not fit.
        results: the RESULT of each model (docs/json.md).
        problems: sentences about what went wrong.
    """

    question: Question
    code: int
    results: tuple[Mapping[str, Any], ...] = ()
    problems: tuple[str, ...] = ()


def verdict(question: Question, options: Sequence[str]) -> Verdict:
    """Ask `hfmem`.

    Args:
        question: what is asked.
        options: further options of `hfmem`, such as `--gpu H100`.
    """
    if not question.whole_context:
        return _asked(question, options)
    # The program takes the model's own maximum, which has to be known first.
    seen = _asked(question, options)
    longest = max((result["architecture"]["max_positions"] or 0 for result in seen.results), default=0)
    if seen.code in (1, 2) or not longest:
        return seen
    return _asked(replace(question, words=(*question.words, "--seq", str(longest))), options)


def _asked(question: Question, options: Sequence[str]) -> Verdict:
    command = [sys.executable, "-m", "hfmem", *question.words, *options, "--require-fit", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, encoding="utf-8")  # noqa: S603 - hfmem itself
    if not done.stdout:
        told = [line for line in done.stderr.splitlines() if line]
        return Verdict(question=question, code=done.returncode or 1, problems=tuple(told[:1]))
    document = json.loads(done.stdout)
    problems = tuple(" ".join(filter(None, (each["message"], each["hint"]))) for each in document["errors"])
    return Verdict(question=question, code=done.returncode, results=tuple(document["results"]), problems=problems)
