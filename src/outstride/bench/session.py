"""One call of the benchmark: what it times, where its figures go, and when it stops."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from outstride.bench import model_report, report, results, studies, table, trained
from outstride.bench.cases import select
from outstride.bench.contenders import absentees
from outstride.bench.contest import Contest, Rules, Timing
from outstride.bench.machine import commit
from outstride.bench.process import WorkerError
from outstride.bench.results import Results
from outstride.bench.table import Job, Row
from outstride.bench.work import Work
from outstride.engine.runtime import resolved
from outstride.errors import OutstrideError
from outstride.layer.shortening import AlgorithmName
from outstride.output.files import check_writable

# What a contender's turns and its preparation take besides the rounds themselves, from runs seen.
PREPARE_SECONDS = {"torch_compile": 2.0, "jax": 1.0}
OTHER_SECONDS, START_SECONDS = 0.25, 4.0


@dataclass
class Session:
    """The conditions of a run, and the results that it adds to."""

    threads: Sequence[int]
    contenders: Sequence[str]
    dtype: str
    training: bool
    rules: Rules
    algorithm: str = "auto"
    out: Path | None = None
    resume: bool = False
    seconds: float = 0
    quiet: bool = False
    results: Results = field(init=False)

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self.algorithm = resolved(cast(AlgorithmName, self.algorithm))
        self._commit = commit()
        if self.out is not None and self.out.is_dir():
            self.out = self.out / results.file_name(Results().machine)
        self.results = results.begin(self.out, self.rules, self.resume)
        if self.out is not None:
            check_writable(self.out)

    def time(self, jobs: Sequence[Job], as_table: bool) -> None:
        """Time every job that is not in the results yet; with `as_table`, print a line for each."""
        if as_table:
            self._announce(jobs)
        for number in self.threads:
            todo = self._missing(jobs, number)
            if todo and not self._over():
                self._contest(todo, number, as_table)
        if as_table:
            mine = {(job.suite, job.id) for job in jobs}
            rows = [
                row for row in self.results.rows if (row.job.suite, row.job.id) in mine and self._like(row)
            ]
            self._say("\n".join(report.closing(table.summary(rows))))
            left = sum(len(self._missing(jobs, number)) for number in self.threads)
            if self.seconds and left:
                self._say(f"{left} rows are left: the same command with --resume goes on")

    def _contest(self, jobs: Sequence[Job], threads: int, as_table: bool) -> None:
        if jobs[0].case is not None:
            self._hold(jobs, threads, as_table, as_table)
            return
        # A model's first call is that of a fresh process, and its memory not what an earlier one left behind.
        measured = not as_table
        for job in jobs:
            if self._over():
                break
            if as_table and (reason := self._unbuildable(job)) is not None:
                self._keep(self._without_times(job, threads, reason), as_table)
                continue
            self._hold([job], threads, as_table, not measured)
            measured = True

    def _hold(self, jobs: Sequence[Job], threads: int, as_table: bool, with_limits: bool) -> None:
        """Race over these jobs with processes of their own; measure the machine before and after."""
        models = jobs[0].case is None
        with Contest(self.contenders, threads, self.rules, self.algorithm, afresh=models) as contest:
            if with_limits:
                self._measure_limits(contest)
            for job in jobs:
                if self._over():
                    break
                self._race(job, contest, as_table)
            if with_limits:
                self._measure_limits(contest)
                self._save()

    def _race(self, job: Job, contest: Contest, as_table: bool) -> None:
        outcome = contest.time(job.source, self.dtype, self.training)
        row = table.row(job, contest, outcome, self.dtype, self.training, self._commit)
        if not as_table and all(timing.median_ms is None for timing in row.timings.values()):
            raise WorkerError(f"nobody could time {job.id}: {'; '.join(report.reasons(row))}")
        self._keep(row, as_table)

    def _keep(self, row: Row, as_table: bool) -> None:
        self.results.add(row)
        if not as_table:
            self._say(report.comparison(row))
        elif row.is_model:
            self._say(model_report.line(row, self.contenders))
        else:
            self._say(report.line(row, self.contenders))
        self._save()

    def _unbuildable(self, job: Job) -> str | None:
        """Why a model is not there, such as a library that is not installed: found out once, for all."""
        try:
            Work(job.source, self.dtype, self.training)
        except OutstrideError as error:
            return str(error)
        return None

    def _without_times(self, job: Job, threads: int, reason: str) -> Row:
        timings = {name: Timing(error=reason) for name in self.contenders}
        kind = (self.dtype, self.training, timings)
        return Row(job, threads, *kind, commit=self._commit, algorithm=self.algorithm)

    def observe(self, study: str, patterns: list[str]) -> None:
        """Make a study of every layer that is not in the results yet."""
        if study == "trained":
            self._judge(patterns)
            return
        layers = select(studies.layers(study), patterns)
        for number in self.threads:
            for case in layers:
                seen = self.results.studies.get(study, [])
                if any((entry["id"], entry["threads"]) == (case.id, number) for entry in seen):
                    continue
                if self._over():
                    self._say(f"{case.id} and what follows are left: the same command with --resume goes on")
                    return
                for entry in studies.observe(study, case, self.contenders, number):
                    self.results.observe(study, {**entry, "commit": self._commit}, studies.KEY)
                    self._say(report.observation(study, entry))
                self._save()

    def _judge(self, patterns: list[str]) -> None:
        """Train every network that is not in the results yet, and look at its residuals."""
        names = trained.select(patterns)
        for number in self.threads:
            seen = {(e["network"], e["threads"]) for e in self.results.studies.get("trained", [])}
            for name in (name for name in names if (name, number) not in seen):
                if self._over():
                    self._say(f"{name} and what follows are left: the same command with --resume goes on")
                    return
                for entry in trained.observe(name, number):
                    self.results.observe("trained", {**entry, "commit": self._commit}, studies.KEY)
                    self._say(report.observation("trained", entry))
                self._save()

    def _announce(self, jobs: Sequence[Job]) -> None:
        rows = sum(len(self._missing(jobs, number)) for number in self.threads)
        turns = sum(
            self.rules.rounds * self.rules.round_seconds * 1.3 + PREPARE_SECONDS.get(name, OTHER_SECONDS)
            for name in self.contenders
        )
        whole = rows * turns + len(self.threads) * START_SECONDS * len(self.contenders)
        models = jobs[0].case is None
        begin = f"{rows} rows, {len(self.contenders)} contenders: "
        about = "" if models else f"about {whole / 60:.0f} minutes where calls are short, "
        self._say(f"{begin}{about}at most {rows * self.rules.limit_seconds / 60:.0f} minutes")
        for name, reason in absentees("models" if models else "layers").items():
            self._say(f"without {name}: {reason}")
        self._say((model_report if models else report).heading(self.contenders))

    def _measure_limits(self, contest: Contest) -> None:
        """The two rates at this number of threads, in memory and in a cache, for the head of a report."""
        memory, cache = contest.limits(self.dtype, 1 << 29), contest.limits(self.dtype, 1 << 19, flops=False)
        rates = {
            "flops": memory["flops"],
            "memory_bytes_per_second": memory["bytes"],
            "cache_bytes_per_second": cache["bytes"],
        }
        key = {"threads": contest.threads, "dtype": self.dtype}
        others = []
        for entry in self.results.limits:
            if {name: entry[name] for name in key} != key:
                others.append(entry)
            else:
                # A disturbed measurement finds less than there is, never more.
                rates = {
                    name: max(filter(None, (rate, entry[name])), default=None) for name, rate in rates.items()
                }
        self.results.limits = [*others, {**key, **rates}]

    def _like(self, row: Row) -> bool:
        kind = (self.dtype, self.training, self.algorithm)
        return (row.dtype, row.training, row.algorithm) == kind and row.threads in self.threads

    def _missing(self, jobs: Sequence[Job], threads: int) -> list[Job]:
        done = {row.key for row in self.results.rows}

        def wanted(job: Job) -> Row:
            return Row(job, threads, self.dtype, self.training, {}, algorithm=self.algorithm)

        return [job for job in jobs if wanted(job).key not in done]

    def _over(self) -> bool:
        return bool(self.seconds) and time.monotonic() - self._began > self.seconds

    def _save(self) -> None:
        if self.out is not None:
            self.results.save(self.out)

    def _say(self, text: str) -> None:
        if not self.quiet:
            print(text, flush=True)
