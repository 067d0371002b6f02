"""Time contenders against each other: separate long-lived processes, in turn, several rounds."""

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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from statistics import median
from types import TracebackType
from typing import Any

from outstride.errors import OutstrideError

# A thread pool spins for a moment after its last job, on the very cores that the next contender needs.
QUIET_SECONDS = 0.003
START_SECONDS = 120.0
END_SECONDS = 5.0


def installed() -> list[str]:
    """The contenders that can run here, outstride first and torch second."""
    needs = {"onnxruntime": ("onnxruntime", "onnx"), "openvino": ("openvino",)}
    others = [name for name, packages in needs.items() if all(map(find_spec, packages))]
    return ["outstride", "torch", *others]


class WorkerError(OutstrideError):
    """A worker process answered with an error, ran out of time or died."""


class Process:
    """One contender's process, started when first needed and again after it had to be stopped."""

    def __init__(self, contender: str, threads: int) -> None:
        self.contender, self.threads = contender, threads
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

    def start(self) -> None:
        """Start the process, which loads its library while nobody waits for it."""
        threads = str(self.threads)
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        with _uninterrupted():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "outstride.bench.worker", self.contender, threads],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=environment,
            )

    def _read_line(self, seconds: float) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        channel, deadline = self._process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._pending:
            ready, _, _ = select.select([channel], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError
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


@dataclass
class Timing:
    """What one contender did with one piece of work; `error` says why where it did nothing."""

    median_ms: float | None = None
    minimum_ms: float | None = None
    first_ms: float | None = None
    flops: int | None = None
    residual: float | None = None
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Rules:
    """How a contest is held."""

    rounds: int = 5
    round_seconds: float = 0.02
    limit_seconds: float = 60.0
    residuals: bool = True


class Contest:
    """The same contenders at one number of threads, over one piece of work after another."""

    def __init__(self, contenders: Sequence[str], threads: int, rules: Rules) -> None:
        self.rules = rules
        self.processes = [Process(name, threads) for name in contenders]

    def __enter__(self) -> Contest:
        try:
            for process in self.processes:
                process.start()
            # Nobody is timed while another is still loading.
            for process in self.processes:
                with suppress(WorkerError):
                    process.ask("ready", START_SECONDS)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for process in self.processes:
            process.stop()

    def peak(self, dtype: str) -> float | None:
        """FLOP/s of pure multiply-adds here, or None where the engine does not measure it."""
        for process in self.processes:
            if process.contender == "outstride":
                try:
                    value = process.ask("peak", 30.0, dtype=dtype)["peak"]
                except WorkerError:
                    return None
                return None if value is None else float(value)
        return None

    def time(
        self, source: dict[str, Any], dtype: str = "float32", training: bool = False
    ) -> dict[str, Timing]:
        """Prepare everybody, then time them in turn; whoever fails leaves the race with the reason."""
        deadline = time.monotonic() + self.rules.limit_seconds
        timings = {process.contender: Timing() for process in self.processes}
        rounds: dict[str, list[float]] = {process.contender: [] for process in self.processes}
        request = {"round_seconds": self.rules.round_seconds}

        def ask(process: Process, do: str, **more: Any) -> dict[str, Any] | None:
            timing = timings[process.contender]
            if timing.error is not None:
                return None
            try:
                return process.ask(do, max(1.0, deadline - time.monotonic()), **request, **more)
            except WorkerError as error:
                timing.error = str(error)
                return None

        for process in self.processes:
            reply = ask(process, "prepare", source=source, dtype=dtype, training=training)
            if reply is not None:
                timings[process.contender].first_ms = reply["first_ms"]
                timings[process.contender].flops = reply["flops"]
        for number in range(self.rules.rounds):
            # Who goes first changes: nobody always finds the caches as the same other left them.
            for process in self.processes[:: 1 if number % 2 == 0 else -1]:
                time.sleep(QUIET_SECONDS)
                reply = ask(process, "round")
                if reply is not None:
                    rounds[process.contender].append(reply["seconds"])
        for process in self.processes:
            timing, seconds = timings[process.contender], rounds[process.contender]
            if len(seconds) == self.rules.rounds:
                timing.median_ms, timing.minimum_ms = median(seconds) * 1e3, min(seconds) * 1e3
            if self.rules.residuals:
                reply = ask(process, "residual")
                timing.residual = None if reply is None else reply["residual"]
        return timings
