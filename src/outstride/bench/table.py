"""Time contenders over a table of layers and say where each of them stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any

from outstride.bench.cases import Case
from outstride.bench.contenders import CONTENDERS
from outstride.bench.contest import Contest, Outcome, Rules, Timing

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


# The tables of real layers, whose rows a report compares by library and by kind of layer.
REAL = ("layers", "more_layers")
# The file of whole models that a page leads with.
WHOLE = "models"


@dataclass(frozen=True)
class Job:
    """One thing to time: `source` is what a worker builds it from, `suite` the table it is a row of."""

    id: str
    source: dict[str, Any]
    suite: str = ""

    @classmethod
    def of_case(cls, case: Case, suite: str = "") -> Job:
        return cls(case.id, {"case": case.to_dict()}, suite)

    @classmethod
    def of_model(cls, target: str, shape: Sequence[int] = (), name: str = "", suite: str = "") -> Job:
        """A model on a random input of this shape, or on the one that comes with it."""
        return cls(name or target, {"model": target, **({"shape": list(shape)} if shape else {})}, suite)

    @property
    def case(self) -> Case | None:
        return Case.from_dict(self.source["case"]) if "case" in self.source else None


@dataclass(frozen=True)
class Row:
    """One job at one number of threads, timed."""

    job: Job
    threads: int
    dtype: str
    training: bool
    timings: dict[str, Timing]
    flops: int | None = None
    bytes: int | None = None
    peak: float | None = None
    copy: float | None = None
    commit: str | None = None
    algorithm: str = "auto"
    input_shape: tuple[int, ...] | None = None
    weight_bytes: int | None = None

    @property
    def is_model(self) -> bool:
        return "model" in self.job.source

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.job.suite, self.job.id, self.threads, self.dtype, self.training, self.algorithm)

    @property
    def part(self) -> tuple[str, bool, str, int, str]:
        """What it has in common with the rows that it is summed up with."""
        return (self.job.suite, self.training, self.dtype, self.threads, self.algorithm)

    def median_ms(self, name: str) -> float | None:
        return self.timings[name].median_ms if name in self.timings else None

    @property
    def ratio(self) -> float | None:
        """How many times faster than torch as most call it; below 1 is slower.

        A layer is called as most call it, too, a whole model in the fastest way that there is.
        """
        ours = self.ours if self.is_model else "outstride"
        return over(self.median_ms("torch"), self.median_ms(ours) if ours else None)

    @property
    def ours(self) -> str | None:
        """The fastest way to outstride: its layout, or compiled."""
        return self._fastest(name for name in self.timings if _ours(name))

    @property
    def best_peer(self) -> str | None:
        """The fastest of all others."""
        return self._fastest(name for name in self.timings if not _ours(name))

    @property
    def lead(self) -> float | None:
        """How many times faster than the best peer, each in its best layout."""
        if self.ours is None or self.best_peer is None:
            return None
        return over(self.median_ms(self.best_peer), self.median_ms(self.ours))

    def by_winograd(self, name: str) -> bool:
        """Whether this is MNN's method of large tiles, whose residual must be seen beside its time."""
        case = self.job.case
        if name != "mnn" or case is None or case.transposed or case.groups == case.in_channels > 1:
            return False
        square = len(set(case.kernel_size)) == 1 and case.kernel_size[0] > 1
        return square and {*case.stride, *case.dilation} == {1}

    @property
    def of_direct(self) -> float | None:
        """Our residual as a share of the direct chain's, where results come from short algorithms."""
        timing = self.timings[self.ours] if self.ours else None
        return None if timing is None else over(timing.residual, timing.direct_residual)

    @property
    def limit_ms(self) -> float | None:
        """The roofline: the longer of computing at the peak and moving the least bytes at the copy's rate."""
        computing = over(self.flops, self.peak)
        moving = over(self.bytes, self.copy)
        return None if computing is None or moving is None else 1e3 * max(computing, moving)

    def of_limit(self, name: str) -> float | None:
        """Share of the roofline that a contender reaches, 0 to 1."""
        return over(self.limit_ms, self.median_ms(name))

    def gflops(self, name: str) -> float | None:
        """Useful 1e9 floating-point operations in a second."""
        rate = over(self.flops, self.median_ms(name))
        return None if rate is None else rate / 1e6

    def of_peak(self, name: str) -> float | None:
        """Share of the rate of pure multiply-adds measured in the same run, 0 to 1."""
        gflops = self.gflops(name)
        return None if gflops is None or not self.peak else gflops * 1e9 / self.peak

    def to_dict(self) -> dict[str, Any]:
        return {
            "suite": self.job.suite,
            "id": self.job.id,
            **self.job.source,
            "threads": self.threads,
            "dtype": self.dtype,
            "training": self.training,
            "algorithm": self.algorithm,
            "commit": self.commit,
            "flops": self.flops,
            "bytes": self.bytes,
            **({"input_shape": self.input_shape, "weight_bytes": self.weight_bytes} if self.is_model else {}),
            "peak_flops": self.peak,
            "copy_bytes_per_second": self.copy,
            "limit_ms": self.limit_ms,
            "ratio": self.ratio,
            "best_peer": self.best_peer,
            "lead": self.lead,
            "contenders": {
                name: {**timing.to_dict(), "gflops": self.gflops(name), "of_limit": self.of_limit(name)}
                for name, timing in self.timings.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Row:
        source = {name: values[name] for name in ("case", "model", "shape") if name in values}
        return cls(
            Job(values["id"], source, values["suite"]),
            values["threads"],
            values["dtype"],
            values["training"],
            {name: Timing.from_dict(timing) for name, timing in values["contenders"].items()},
            values["flops"],
            values["bytes"],
            values["peak_flops"],
            values["copy_bytes_per_second"],
            values["commit"],
            values.get("algorithm", "auto"),
            tuple(values["input_shape"]) if values.get("input_shape") else None,
            values.get("weight_bytes"),
        )

    def _fastest(self, names: Iterator[str]) -> str | None:
        timed = [(median_ms, name) for name in names if (median_ms := self.median_ms(name)) is not None]
        return min(timed)[1] if timed else None


def _ours(name: str) -> bool:
    return name in CONTENDERS and CONTENDERS[name].ours


def over(above: float | None, below: float | None) -> float | None:
    return None if above is None or not below else above / below


def run(
    jobs: Sequence[Job],
    threads: Sequence[int],
    contenders: Sequence[str],
    rules: Rules,
    dtype: str = "float32",
    training: bool = False,
    commit: str | None = None,
) -> Iterator[Row]:
    """Time every job at every number of threads, a row as soon as it is known."""
    for number in threads:
        with Contest(contenders, number, rules) as contest:
            for job in jobs:
                yield row(job, contest, contest.time(job.source, dtype, training), dtype, training, commit)


def row(job: Job, contest: Contest, outcome: Outcome, dtype: str, training: bool, commit: str | None) -> Row:
    """What a contest found out about a job, as a row."""
    return Row(
        job,
        contest.threads,
        dtype,
        training,
        outcome.timings,
        outcome.flops,
        outcome.bytes,
        outcome.peak,
        outcome.copy,
        commit,
        contest.algorithm,
        outcome.input_shape,
        outcome.weight_bytes,
    )


def is_real(row: Row) -> bool:
    """Whether this is the plain work on a layer of a real model: float32, inference, as it comes."""
    return row.job.suite in REAL and not row.is_model and _is_plain(row)


def is_whole(row: Row) -> bool:
    """Whether this is the plain work on one of the models that a page leads with."""
    return row.job.suite == WHOLE and row.is_model and _is_plain(row)


def _is_plain(row: Row) -> bool:
    return row.dtype == "float32" and not row.training and row.algorithm == "auto"


def geometric_mean(values: Sequence[float]) -> float | None:
    return exp(sum(map(log, values)) / len(values)) if values else None


def summary(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each table, kind of work and number of threads: geometric means, and the rows that lag."""
    found = []
    parts = {row.part for row in rows}
    models = {row.job.suite for row in rows if row.is_model}

    def order(part: tuple[str, bool, str, int, str]) -> tuple[Any, ...]:
        # Inference in float32 comes first, whole models before layers, the real layers before the others.
        return part[1], part[2] != "float32", part[0] not in models, part[0] not in REAL, part

    for part in sorted(parts, key=order):
        mine = [row for row in rows if row.part == part]
        ratios = {row.job.id: row.ratio for row in mine if row.ratio is not None}
        leads = {row.job.id: row.lead for row in mine if row.lead is not None}
        limits = [share for row in mine if row.ours and (share := row.of_limit(row.ours)) is not None]
        shares = [share for row in mine if (share := row.of_direct) is not None]
        found.append(
            {
                "suite": part[0],
                "training": part[1],
                "dtype": part[2],
                "threads": part[3],
                "algorithm": part[4],
                "layers": len(mine),
                "geometric_mean": geometric_mean(list(ratios.values())),
                "slower": _below_one(ratios),
                "lead": geometric_mean(list(leads.values())),
                "behind": _below_one(leads),
                "of_limit": geometric_mean(limits),
                "short": len(shares),
                "of_direct": geometric_mean([share for share in shares if share > 0]),
                "most_of_direct": max(shares, default=None),
                "unmeasured": [row.job.id for row in mine if row.ratio is None],
            }
        )
    return found


def _below_one(ratios: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(((k, v) for k, v in ratios.items() if v < 1), key=lambda pair: pair[1]))
