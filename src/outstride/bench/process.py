"""One contender's process: requests and answers are lines of JSON, and silence has a limit."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from outstride.errors import OutstrideError

START_SECONDS = 120.0
END_SECONDS = 5.0
SLICE_SECONDS = 0.1


class WorkerError(OutstrideError):
    """A worker process answered with an error, ran out of time or died."""


class Process:
    """One contender's process, started when first needed and again after it had to be stopped."""

    def __init__(
        self,
        contender: str,
        threads: int,
        cores: Sequence[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.contender, self.threads = contender, threads
        self._cores = ",".join(map(str, cores))
        self.waited_seconds = 0.0
        self.environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as this object
        self._pending = b""

    def ask(self, do: str, seconds: float, **request: Any) -> dict[str, Any]:
        """Send a request and wait at most so long for its answer."""
        if self._process is None:
            self.start()
            seconds += START_SECONDS
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self._process.stdin.flush()
            reply: dict[str, Any] = json.loads(self._read_line(seconds))
        except (BrokenPipeError, EOFError):
            with suppress(subprocess.TimeoutExpired):
                # Its pipe ends a moment before the process does.
                self._process.wait(END_SECONDS)
            code = self._process.returncode
            self.stop()
            raise WorkerError(f"{self.contender} died (exit code {code}): {self._last_words()}") from None
        except TimeoutError:
            self.stop()
            raise WorkerError(f"{self.contender} took longer than its {seconds:.0f} s") from None
        if "error" in reply:
            raise WorkerError(str(reply["error"]))
        return reply

    def stop(self) -> None:
        """End the process; the next request starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
        self._process, self._pending = None, b""

    close = stop

    def start(self) -> None:
        """Start the process, which loads its library while nobody waits for it."""
        threads = str(self.threads)
        limits = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment = {**os.environ, **limits, **self.environment}
        with _uninterrupted():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "outstride.bench.worker", self.contender, threads, self._cores],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=environment,
            )

    def _read_line(self, seconds: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        channel, until = self._process.stdout.fileno(), self.waited_seconds + seconds
        while b"\n" not in self._pending:
            begin = time.monotonic()
            ready, _, _ = select.select([channel], [], [], SLICE_SECONDS)
            # Counted in slices, a pause of the whole machine or of this process group uses up no limit.
            self.waited_seconds += min(time.monotonic() - begin, SLICE_SECONDS)
            if not ready:
                if self.waited_seconds > until:
                    raise TimeoutError
                continue
            chunk = os.read(channel, 65536)
            if not chunk:
                raise EOFError
            self._pending += chunk
        line, _, self._pending = self._pending.partition(b"\n")
        return line

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back for a moment: between starting a process and knowing it, nobody could end it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held and callable(before):
        before(signal.SIGINT, None)
