"""Time outstride and torch over a table of real layers and say where each of them stands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from typing import Any

from outstride.bench.cases import Case
from outstride.bench.contest import Contest, Rules, Timing
from outstride.bench.files import write_whole
from outstride.bench.machine import facts

CONTENDERS = ("outstride", "torch")
# Ten layers for the training step: every dimension, both operators, thin, deep and depthwise.
TRAINING = (
    "resnet50.l1.3x3",
    "resnet50.l4.3x3",
    "mobilenet.dw56",
    "hifigan.res32.k3",
    "unet3d.32",
    "dcgan.3",
    "pix2pix.4",
    "unet512.2",
    "onednn_hifigan_b1.2",
    "nnunet128.2",
)


@dataclass(frozen=True)
class Job:
    """One thing to time: `source` is what a worker builds it from."""

    id: str
    source: dict[str, Any]

    @classmethod
    def of_case(cls, case: Case) -> Job:
        return cls(case.id, {"case": case.to_dict()})

    @classmethod
    def of_model(cls, name: str, shape: Sequence[int]) -> Job:
        return cls(name, {"model": name, "shape": list(shape)})


@dataclass(frozen=True)
class Row:
    """One job at one number of threads, timed."""

    job: Job
    threads: int
    dtype: str
    training: bool
    timings: dict[str, Timing]
    peak: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times faster than torch; below 1 is slower."""
        ours, theirs = (self.timings[name].median_ms if name in self.timings else None for name in CONTENDERS)
        return None if ours is None or theirs is None else theirs / ours

    @property
    def flops(self) -> int | None:
        """Useful floating-point operations of one call, as any contender that got so far counted them."""
        return next((timing.flops for timing in self.timings.values() if timing.flops is not None), None)

    def gflops(self, contender: str) -> float | None:
        """Useful 1e9 floating-point operations in a second."""
        median_ms = self.timings[contender].median_ms
        return None if median_ms is None or self.flops is None else self.flops / median_ms / 1e6

    def of_peak(self, contender: str) -> float | None:
        """Share of the rate of pure multiply-adds measured in the same run, 0 to 1."""
        gflops = self.gflops(contender)
        return None if gflops is None or not self.peak else gflops * 1e9 / self.peak

    def to_dict(self) -> dict[str, Any]:
        return {
            "id": self.job.id,
            **self.job.source,
            "threads": self.threads,
            "dtype": self.dtype,
            "training": self.training,
            "flops": self.flops,
            "peak_flops": self.peak,
            "ratio": self.ratio,
            "contenders": {
                name: {**timing.to_dict(), "gflops": self.gflops(name), "of_peak": self.of_peak(name)}
                for name, timing in self.timings.items()
            },
        }


def run(
    jobs: Sequence[Job],
    threads: Sequence[int],
    dtype: str = "float32",
    training: bool = False,
    contenders: Sequence[str] = CONTENDERS,
    rules: Rules | None = None,
) -> Iterator[Row]:
    """Time every job at every number of threads, a row as soon as it is known."""
    for number in threads:
        with Contest(contenders, number, rules or Rules()) as contest:
            peak = contest.peak(dtype)
            for job in jobs:
                timings = contest.time(job.source, dtype, training)
                yield Row(job, number, dtype, training, timings, peak)


def geometric_mean(values: Sequence[float]) -> float | None:
    return exp(sum(map(log, values)) / len(values)) if values else None


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each number of threads: geometric mean of the ratios, slower rows, rows without a ratio."""
    found = []
    for number in sorted({row.threads for row in rows}):
        mine = [row for row in rows if row.threads == number]
        ratios = {row.job.id: row.ratio for row in mine if row.ratio is not None}
        slower = {name: ratio for name, ratio in ratios.items() if ratio < 1}
        found.append(
            {
                "threads": number,
                "layers": len(mine),
                "geometric_mean": geometric_mean(list(ratios.values())),
                "slower": dict(sorted(slower.items(), key=lambda pair: pair[1])),
                "unmeasured": [row.job.id for row in mine if row.ratio is None],
            }
        )
    return found


def to_dict(rows: Sequence[Row], rules: Rules) -> dict[str, Any]:
    """Everything a file of results holds."""
    return {
        "machine": facts(),
        "rules": {
            "rounds": rules.rounds,
            "round_seconds": rules.round_seconds,
            "limit_seconds": rules.limit_seconds,
        },
        "summary": summary(rows),
        "rows": [row.to_dict() for row in rows],
    }


def save(path: Path, content: dict[str, Any]) -> None:
    """Write beside and rename, so that an interrupted run leaves the last whole file."""
    text = json.dumps(content, indent=1) + "\n"
    write_whole(path, lambda beside: beside.write_text(text, encoding="utf-8"))
