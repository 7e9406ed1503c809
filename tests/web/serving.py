"""The page, served by a process of its own as `hfmem-web` does."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.command import NOWHERE

ROOT = Path(__file__).parents[2]
_STARTS = 120  # seconds, on a machine that is busy too


@dataclass(frozen=True, slots=True)
class Served:
    """A page that is served.

    Attributes:
        url: its address, with a slash at the end.
        pid: its process.
        log: what it prints, as a file.
    """

    url: str
    pid: int
    log: Path

    def ask(
        self, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], str]:
        """Status, headers by lower-case name, and the text of one request."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=90)
        try:
            connection.request("GET" if body is None else "POST", f"/{path}", body, dict(headers or {}))
            answer = connection.getresponse()
            text = answer.read().decode()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text
        finally:
            connection.close()

    def computed(self) -> float:
        """Seconds of processor time that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Bytes of memory that the process holds."""
        rows = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("VmRSS:"))


@contextmanager
def serving(
    home: Path, *arguments: str, env: Mapping[str, str] | None = None, command: Sequence[str] = ("-m", "hfmem.web")
) -> Iterator[Served]:
    """Serve the page while the block runs; without `env` it reaches no Hub."""
    port = _free()
    around = {**os.environ, **(NOWHERE if env is None else env), "HF_HOME": str(home / "hf"), "PYTHONPATH": _paths()}
    around["PYTHONUNBUFFERED"] = "1"  # the log is read while it runs
    log = home / f"page-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, *command, *(arguments or ("--offline",)), "--port", str(port)],
            env=around,
            cwd=home,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            found = Served(f"http://127.0.0.1:{port}/", process.pid, log)
            _wait(found, process)
            yield found
        finally:
            process.terminate()
            process.wait(30)


def _paths() -> str:
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(page: Served, process: subprocess.Popen[bytes]) -> None:
    """Until it answers, and its server has finished starting."""
    until = time.monotonic() + _STARTS
    while time.monotonic() < until and process.poll() is None:
        try:
            if page.ask("gradio_api/info")[0] == 200 and "MCP" in page.log.read_text(encoding="utf-8"):
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"the page is not served:\n{page.log.read_text(encoding='utf-8')}")
