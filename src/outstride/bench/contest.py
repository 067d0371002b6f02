"""Time contenders against each other: separate long-lived processes, in turn, several rounds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

from outstride.bench.machine import idlest_cores, wait_for_cores
from outstride.bench.process import START_SECONDS, Process, WorkerError

# A thread pool spins for a moment after its last job, on the very cores that the next contender needs.
QUIET_SECONDS = 0.003
# Who is so much slower than the fastest gives up the turns that are left, where they are long; but torch as
# called is a bar of its own and has all its rounds.
HOPELESS, LONG_SECONDS = 3.0, 0.1
NEVER_GIVES_UP = "torch"
# Rounds that somebody else disturbed are made up for, up to so many times the rounds.
EXTRA_ROUNDS = 2
EXACT_SECONDS = 120.0
# No time stands beside such a residual: the roundings of bfloat16 come to 0.004.
WRONG = 0.02
# Who keeps on disk what was compiled once, and where it is told to.
CACHES = {
    "outstride": "OUTSTRIDE_CACHE_DIR",
    "torch_compile": "TORCHINDUCTOR_CACHE_DIR",
}
# How much of a row's time one contender may take for one request, such as getting ready.
REQUEST_SHARE = 0.25


@dataclass
class Timing:
    """What one contender did with one piece of work; `error` says why where it did nothing."""

    rounds_ms: list[float] = field(default_factory=list)
    disturbed_ms: list[float] = field(default_factory=list)
    first_ms: float | None = None
    form: str | None = None
    residual: float | None = None
    direct_residual: float | None = None  # of the direct chain, where results come from short algorithms
    error: str | None = None
    plan: dict[str, Any] | None = None  # what the engine chose to run
    memory_bytes: int | None = None  # of a model, in a call, its weights included

    def settle(self, rounds: int) -> None:
        """Fill up with the best of the disturbed rounds where too few were calm."""
        missing = max(0, rounds - len(self.rounds_ms))
        self.disturbed_ms.sort()
        self.rounds_ms += self.disturbed_ms[:missing]

    @property
    def median_ms(self) -> float | None:
        return median(self.rounds_ms) if self.rounds_ms else None

    @property
    def minimum_ms(self) -> float | None:
        return min(self.rounds_ms) if self.rounds_ms else None

    @property
    def spread(self) -> float | None:
        """How far the middle half of the rounds lies apart, as a share of their median."""
        if len(self.rounds_ms) < 3:
            return None
        ordered = sorted(self.rounds_ms)
        quarter = len(ordered) // 4
        return (ordered[-1 - quarter] - ordered[quarter]) / median(ordered)

    def to_dict(self) -> dict[str, Any]:
        values = {
            "median_ms": self.median_ms,
            "minimum_ms": self.minimum_ms,
            "spread": self.spread,
            "rounds_ms": _digits(self.rounds_ms),
            "first_ms": self.first_ms,
            "form": self.form,
            "residual": self.residual,
            "direct_residual": self.direct_residual,
            "disturbed_ms": _digits(self.disturbed_ms),
            "error": self.error,
            "plan": self.plan,
            "memory_bytes": self.memory_bytes,
        }
        return {name: value for name, value in values.items() if value is not None and value != []}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Timing:
        names = (
            "rounds_ms", "disturbed_ms", "first_ms", "form", "residual", "direct_residual", "error", "plan",
            "memory_bytes",
        )  # fmt: skip
        return cls(**{name: values[name] for name in names if name in values})


@dataclass(frozen=True)
class Rules:
    """How a contest is held."""

    rounds: int = 5
    round_seconds: float = 0.02
    limit_seconds: float = 60.0
    residuals: bool = True
    patience_seconds: float = 10.0


@dataclass(frozen=True)
class Outcome:
    """One piece of work, timed by everybody, with its size and the machine's limits of those moments."""

    timings: dict[str, Timing]
    flops: int | None = None
    bytes: int | None = None
    peak: float | None = None
    copy: float | None = None
    input_shape: tuple[int, ...] | None = None
    weight_bytes: int | None = None


class Contest:
    """The same contenders at one number of threads, over one piece of work after another.

    With `afresh` they find no compiled code of earlier runs on disk.
    """

    def __init__(
        self,
        contenders: Sequence[str],
        threads: int,
        rules: Rules,
        algorithm: str = "auto",
        afresh: bool = False,
    ) -> None:
        self.rules, self.threads, self.algorithm = rules, threads, algorithm
        # The float64 results, compiled code, and nothing that must last.
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        cores = idlest_cores(threads)
        self.processes = [
            Process(name, threads, cores, self._environment(name, afresh)) for name in contenders
        ]

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
        self._folder.cleanup()

    def _environment(self, contender: str, afresh: bool) -> dict[str, str]:
        # A folder for each: nobody finds what another has compiled a moment before.
        folder = Path(self._folder.name) / contender
        caches = {variable: str(folder / variable) for variable in CACHES.values()} if afresh else {}
        if afresh:
            caches["OUTSTRIDE_PROBE"] = "off"  # it is done once a machine, not once for each empty cache
        return {"OUTSTRIDE_ALGORITHM": self.algorithm, **caches}

    def limits(self, dtype: str, moved_bytes: int | None, flops: bool = True) -> dict[str, float | None]:
        """FLOP/s of pure multiply-adds and bytes/s of pure copying here and now; None where unmeasured."""
        found: dict[str, float | None] = {"flops": None, "bytes": None}
        with suppress(WorkerError):
            found = self.processes[0].ask("limits", 30.0, dtype=dtype, bytes=moved_bytes, flops=flops)
        return found

    def time(self, source: dict[str, Any], dtype: str = "float32", training: bool = False) -> Outcome:
        """Prepare everybody, then time them in turn; whoever fails leaves the race with the reason."""
        return _Race(self, source, dtype, training, Path(self._folder.name) / "exact.pt").run()


class _Race:
    """One piece of work on its way through a contest."""

    def __init__(
        self, contest: Contest, source: dict[str, Any], dtype: str, training: bool, path: Path
    ) -> None:
        self.contest, self.rules, self.path = contest, contest.rules, path
        self.dtype = dtype
        self.work: dict[str, Any] = {"source": source, "dtype": dtype, "training": training}
        self.left = self.rules.limit_seconds
        self.timings = {process.contender: Timing() for process in contest.processes}

    def ask(self, process: Process, do: str, **more: Any) -> dict[str, Any] | None:
        timing = self.timings[process.contender]
        if timing.error is not None:
            return None
        # A share of the row's time, and never too little for a turn that has begun near its end.
        seconds, before = max(1.0, REQUEST_SHARE * self.rules.limit_seconds), process.waited_seconds
        try:
            return process.ask(do, seconds, round_seconds=self.rules.round_seconds, **more)
        except WorkerError as error:
            timing.error = str(error)
            return None
        finally:
            self.left -= process.waited_seconds - before

    def run(self) -> Outcome:
        flops = moved = shape = weights = None
        for process in self.contest.processes:
            if self.left <= 0:
                limit = self.rules.limit_seconds
                self.timings[process.contender].error = f"no time was left of the row's {limit:.0f} s"
            reply = self.ask(process, "prepare", **self.work)
            if reply is not None:
                timing = self.timings[process.contender]
                timing.first_ms, timing.form, timing.plan = (reply[k] for k in ("first_ms", "form", "plan"))
                timing.memory_bytes = reply["memory_bytes"]
                flops, moved = reply["flops"], reply["bytes"]
                shape, weights = tuple(reply["input_shape"]), reply["weight_bytes"]
        wait_for_cores(self.contest.threads, self.rules.patience_seconds)
        peaks, copies = [], []
        for number in range(EXTRA_ROUNDS * self.rules.rounds):
            if not any(map(self._has_a_turn, self.contest.processes)):
                break
            # The clock moves, with what neighbours on the machine do: the limit is that of the same moments.
            limits = self.contest.limits(self.dtype, moved)
            peaks.append(limits["flops"])
            copies.append(limits["bytes"])
            self._take_turns(number)
        for timing in self.timings.values():
            timing.settle(self.rules.rounds)
        if self.rules.residuals:
            self._compare()
        return Outcome(self.timings, flops, moved, _middle(peaks), _most(copies), shape, weights)

    def _take_turns(self, number: int) -> None:
        # Who goes first changes: nobody always finds the caches as the same other left them.
        for process in self.contest.processes[:: 1 if number % 2 == 0 else -1]:
            if not self._has_a_turn(process):
                continue
            time.sleep(QUIET_SECONDS)
            timing, reply = self.timings[process.contender], self.ask(process, "round")
            if reply is None:
                timing.rounds_ms.clear()
                timing.disturbed_ms.clear()
            else:
                taken = timing.disturbed_ms if reply["disturbed"] else timing.rounds_ms
                taken.append(reply["seconds"] * 1e3)

    def _has_a_turn(self, process: Process) -> bool:
        timing = self.timings[process.contender]
        # A row whose time is over keeps the rounds that it has; each contender gets one at least.
        over = self.left <= 0 and bool(timing.rounds_ms or timing.disturbed_ms)
        done = over or len(timing.rounds_ms) == self.rules.rounds or self._slow(timing)
        return timing.error is None and not done

    def _slow(self, timing: Timing) -> bool:
        """Whether this contender takes long and is far behind, so that more turns would say nothing."""

        def best(of: Timing) -> float:
            return min([*of.rounds_ms, *of.disturbed_ms], default=float("inf"))

        if timing is self.timings.get(NEVER_GIVES_UP):
            return False
        if len(timing.rounds_ms) + len(timing.disturbed_ms) < 2:
            return False  # one round alone may tell of a disturbance, seen or not
        mine, fastest = best(timing), min(map(best, self.timings.values()))
        return LONG_SECONDS * 1e3 < mine < float("inf") and mine > HOPELESS * fastest

    def _compare(self) -> None:
        """Have the first that is able compute the float64 results, and everybody else look at them."""
        self.path.unlink(missing_ok=True)
        racing = [p for p in self.contest.processes if self.timings[p.contender].error is None]
        for process in racing:
            with suppress(WorkerError):
                process.ask("exact", EXACT_SECONDS, path=str(self.path))
                break
        for process in racing:
            reply = self.ask(process, "residual", path=str(self.path)) if self.path.exists() else None
            if reply is not None:
                timing = self.timings[process.contender]
                timing.residual, timing.direct_residual = reply["residual"], reply["direct_residual"]
                if not reply["residual"] <= WRONG:  # nor is NaN
                    error = f"its result is wrong, by {reply['residual']:.1e} of the largest value"
                    self.timings[process.contender] = Timing(residual=reply["residual"], error=error)


def _digits(values: Sequence[float]) -> list[float]:
    """As many digits as a time has."""
    return [float(f"{value:.6g}") for value in values]


def _middle(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return median(found) if found else None


def _most(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
