"""Many cases, in processes of their own: one that dies or never ends is a failure of the case it was at.

Each process plays a segment of neighbouring numbers and ends, so that memory does not grow with the hours.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests import ROOT
from tests.fuzz.drawing import TOGETHER, draw
from tests.fuzz.drawn import Drawn
from tests.fuzz.graphs.drawing import Graph
from tests.fuzz.graphs.drawing import draw as draw_graph
from tests.fuzz.judging import judge

_KERNELS = ROOT / ".pytest_cache" / "kernels"
#: Cases of a process: those of some hundred layers.
SEGMENT = 100 * TOGETHER
#: Seconds after which a case that says nothing is taken for one that never ends.
PATIENCE_SECONDS = 180.0


@dataclass(frozen=True)
class Failure:
    """A case that went wrong: its number, the line that plays it again, and how."""

    number: int
    line: str
    reason: str

    def __str__(self) -> str:
        return f"case {self.number}: {self.reason}\n    python -m tests.fuzz --case '{self.line}'"


@dataclass
class Report:
    """How many cases of a seed were played, up to which number, and what went wrong."""

    seed: int
    played: int = 0
    next_number: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    def __str__(self) -> str:
        rate = self.played / max(self.seconds, 1e-9)
        return (
            f"seed {self.seed}: {self.played} cases in {self.seconds:.0f} s ({rate:.1f} a second), "
            f"{len(self.failures)} wrong; goes on with --seed {self.seed} --first {self.next_number}"
        )


@dataclass(frozen=True)
class Campaign:
    """What is played: the numbers of a seed from `first` on, under the plans of these instruction sets.

    And by these algorithms; all of them unless they are given.
    """

    seed: int
    first: int = 0
    cases: int | None = None
    seconds: float | None = None
    instruction_sets: tuple[str, ...] = ()
    jobs: int = 1
    algorithms: tuple[str, ...] = ()
    graphs: bool = False
    """Models of several operators instead of layers."""

    def draw(self, number: int) -> Drawn | Graph:
        """The case of a number."""
        if self.graphs:
            return draw_graph(self.seed, number, self.instruction_sets)
        return draw(self.seed, number, self.instruction_sets, self.algorithms)

    def numbers(self) -> Iterator[range]:
        """The segments, one after the other."""
        start, end = self.first, None if self.cases is None else self.first + self.cases
        while end is None or start < end:
            stop = (start // SEGMENT + 1) * SEGMENT
            yield range(start, stop if end is None else min(stop, end))
            start = stop

    def command(self, numbers: range) -> list[str]:
        """The process that plays a segment."""
        how = [f"--seed={self.seed}", f"--segment={numbers.start}:{numbers.stop}"]
        how += [f"--instruction-set={name}" for name in self.instruction_sets]
        how += [f"--algorithm={name}" for name in self.algorithms]
        how += ["--graphs"] * self.graphs
        return [sys.executable, "-m", "tests.fuzz", *how]


def play(campaign: Campaign, tell: Callable[[Report], None], found: Callable[[Failure], None]) -> Report:
    """Play until the cases or the seconds are over; `tell` what was played and what was `found` wrong."""
    report, lock, begun = (
        Report(campaign.seed, next_number=campaign.first),
        threading.Lock(),
        time.monotonic(),
    )
    segments, over = campaign.numbers(), threading.Event()
    ended: set[int] = set()

    def heard(number: int, failure: Failure | None) -> None:
        with lock:
            report.played += 1
            ended.add(number)
            while report.next_number in ended:
                ended.discard(report.next_number)
                report.next_number += 1
            report.seconds = time.monotonic() - begun
            if failure is not None:
                report.failures.append(failure)
                found(failure)
            tell(report)

    def work() -> None:
        while not over.is_set():
            with lock:
                numbers = next(segments, None)
            if numbers is None:
                return
            left = None if campaign.seconds is None else campaign.seconds - (time.monotonic() - begun)
            _play_segment(campaign, numbers, left, over, heard)

    with ThreadPoolExecutor(campaign.jobs) as pool:
        for done in [pool.submit(work) for _ in range(campaign.jobs)]:
            done.result()
    return report


def _play_segment(
    campaign: Campaign, numbers: range, seconds: float | None, over: threading.Event,
    heard: Callable[[int, Failure | None], None],
) -> None:  # fmt: skip
    """Play a segment, in as many processes as it takes."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while numbers and not over.is_set():
        with _Process(campaign.command(numbers)) as process:
            at = numbers.start - 1
            for record in process.records(deadline):
                at = record.get("begin", at)
                if "end" in record:
                    at = record["end"] + 1
                    reason = record["reason"]
                    heard(record["end"], Failure(record["end"], record["line"], reason) if reason else None)
            if deadline is not None and time.monotonic() >= deadline:
                over.set()
                return
            how = process.how_it_ended()
        if at < numbers.start:
            raise RuntimeError(f"a process that plays cases {how} before the first")
        if at < numbers.stop:
            line = campaign.draw(at).line()
            heard(at, Failure(at, line, f"the process {how}"))
        numbers = range(at + 1, numbers.stop)


class _Process:
    """A process that plays a segment and says so on its standard output."""

    def __init__(self, command: Sequence[str]) -> None:
        # More threads than cores, and they wait for each other: they must not do it at the others' expense.
        environment = {"OMP_WAIT_POLICY": "PASSIVE", "OUTSTRIDE_CACHE_DIR": str(_KERNELS), **os.environ}
        self._process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )  # fmt: skip
        self._last_word = time.monotonic()
        self._impatient = False

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def records(self, deadline: float | None) -> Iterator[dict[str, Any]]:
        """What it says, until it ends, the deadline has come or it has said nothing for too long."""
        ended = threading.Event()
        watch = threading.Thread(target=self._watch, args=(deadline, ended), daemon=True)
        watch.start()
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                self._last_word = time.monotonic()
                if line.startswith("{"):
                    yield json.loads(line)
        finally:
            ended.set()
            watch.join()

    def _watch(self, deadline: float | None, ended: threading.Event) -> None:
        while not ended.wait(0.2):
            now = time.monotonic()
            self._impatient = now - self._last_word > PATIENCE_SECONDS
            if self._impatient or (deadline is not None and now >= deadline):
                self._process.kill()
                return

    def how_it_ended(self) -> str:
        """In words, with its last ones."""
        if self._impatient:
            return f"said nothing for {PATIENCE_SECONDS:.0f} seconds"
        _, words = self._process.communicate()
        return f"ended with exit code {self._process.returncode}: {words.strip()[-1500:]}"


def judge_case(drawn: Drawn | Graph) -> None:
    """Play a case and raise AssertionError where a law is broken."""
    if isinstance(drawn, Graph):
        from tests.fuzz.graphs import judging  # torch's tracer, whose import takes seconds

        judging.judge(drawn)
    else:
        judge(drawn)


def play_here(campaign: Campaign, numbers: range) -> None:
    """What the process of a segment does: every case is announced, played and reported on, a line each."""
    for number in numbers:
        _say({"begin": number})
        drawn = campaign.draw(number)
        try:
            judge_case(drawn)
            reason = ""
        except AssertionError as wrong:
            reason = str(wrong) or repr(wrong)
            if isinstance(drawn, Graph):
                from tests.fuzz.graphs.shrinking import shrunk

                drawn, reason = shrunk(drawn, reason)
        except Exception as raised:  # noqa: BLE001 - a legal layer raises nothing, so whatever it was is a failure
            reason = f"raised {type(raised).__name__}: {raised}"
        _say({"end": number, "reason": reason, "line": drawn.line() if reason else ""})


def _say(record: dict[str, Any]) -> None:
    print(json.dumps(record), flush=True)
