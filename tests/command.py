"""The command line, run: in this process, where it answers as a process of its own does in a tenth of the time; or as
one, where the process is the point."""

from __future__ import annotations

import importlib
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from unittest.mock import patch

import pytest
from huggingface_hub import close_session, constants

from hfmem.__main__ import run as hfmem

NOWHERE = {"HF_ENDPOINT": "http://127.0.0.1:9"}
_LONGEST = 60  # seconds that a run may take, on a machine that is busy too


def run(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: str | bytes = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`hfmem` with these arguments, in this process: its exit code, and what it prints.

    The environment and the folder are those asked for while it runs, and the streams those of a process whose input
    and output are pipes.
    """
    given = _Pipe(stdin.encode() if isinstance(stdin, str) else stdin)
    out, err = _Pipe(), _Pipe()
    with (
        patch.dict(os.environ, {**os.environ, **NOWHERE} if env is None else env, clear=True),
        clients_environment(),
        pytest.MonkeyPatch.context() as patched,
        _no_longer_than(_LONGEST),
    ):
        if cwd is not None:
            patched.chdir(cwd)
        for name, stream in {"stdin": given, "stdout": out, "stderr": err}.items():
            patched.setattr(sys, name, stream)
            patched.setattr(sys, f"__{name}__", stream)
        patched.setattr(sys, "argv", ["hfmem", *arguments])
        patched.setattr(logging.root, "handlers", [])  # of pytest: messages go where those of a process go
        code = hfmem()
    return _shown(subprocess.CompletedProcess(arguments, code, out.text(), err.text()))


def process(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "", cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """`python -m hfmem` with these arguments: a process."""
    done = subprocess.run(
        [sys.executable, "-m", "hfmem", *arguments],
        env={**os.environ, **NOWHERE} if env is None else env,
        input=stdin,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=_LONGEST,
        check=False,
    )
    return _shown(done)


def _shown(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    assert "Traceback" not in done.stderr
    return done


class _Pipe(io.TextIOWrapper):
    """A stream of text that is neither a terminal nor a file."""

    def __init__(self, content: bytes = b"") -> None:
        self._bytes = io.BytesIO(content)
        super().__init__(self._bytes, encoding="utf-8")

    def text(self) -> str:
        """All that was written."""
        return self._bytes.getvalue().decode()


@contextmanager
def clients_environment() -> Iterator[None]:
    """`huggingface_hub` as the environment asks for now: it reads it once, when it is imported."""
    before = dict(vars(constants))
    try:
        importlib.reload(constants)
        close_session()
        yield
    finally:
        vars(constants).clear()
        vars(constants).update(before)
        close_session()


@contextmanager
def _no_longer_than(seconds: int) -> Iterator[None]:
    """A failure where a process would be killed; no `except` of the program holds it up."""

    def over(number: int, frame: FrameType | None) -> None:
        pytest.fail(f"the command line still runs after {seconds} s")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
