"""`outstride bench`: time a layer, a model or a table of layers against torch and other libraries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from outstride.bench.contest import Rules
    from outstride.bench.table import Job, Row

DTYPES = ("float32", "float64", "bfloat16", "float16")


@dataclass(frozen=True)
class Conditions:
    """What holds for everything that one call of the verb times."""

    threads: list[int]
    dtype: str
    training: bool
    rules: Rules
    out: Path | None
    as_json: bool


def bench(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[LAYER|MODEL]",
            help="A layer as torch writes it, or a factory: package.module:callable or file.py:callable.",
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(help="Input size: 64x64 for a layer, batch and channels too for a model: 1x3x224x224."),
    ] = "",
    batch: Annotated[int, typer.Option(min=1, help="Batch of a layer.")] = 1,
    threads: Annotated[
        list[str] | None, typer.Option(help="Threads: 1 or 1,2; may be repeated. One where none is given.")
    ] = None,
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")] = "float32",
    training: Annotated[bool, typer.Option("--training", help="Time forward and both gradients.")] = False,
    cases: Annotated[Path | None, typer.Option(help="A table of layers to time instead (CSV).")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="With --cases: ids that start so; may be repeated.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which the contenders take turns.")] = 5,
    round_ms: Annotated[float, typer.Option(min=0.1, help="Least time of a contender in a round.")] = 20.0,
    limit: Annotated[float, typer.Option(min=0.1, help="Seconds that one row may take.")] = 60.0,
    residuals: Annotated[bool, typer.Option(help="Compare with the float64 result.")] = True,
    out: Annotated[Path | None, typer.Option(help="Write all figures to this JSON file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Time a layer, a model or a table of layers here, against torch and other installed libraries.

    Every contender runs in a process of its own, in turn with the others; torch is called as its users
    call it (contiguous NCHW, inference mode). Figures are medians. A table is timed against torch alone.

    Examples:

    outstride bench "ConvTranspose2d(64, 32, 4, stride=2, padding=1)" --size 64x64 --threads 1,2

    outstride bench --cases bench/layers.csv --threads 1 --threads 2 --out results.json
    """
    from outstride.bench.contest import Rules
    from outstride.errors import ArgumentError

    if dtype not in DTYPES:
        raise ArgumentError(f"'dtype' must be one of {', '.join(DTYPES)}: got {dtype!r}.")
    if out is not None and not out.absolute().parent.is_dir():
        raise ArgumentError(f"'out' must lie in a folder that exists: got {str(out)!r}.")
    rules = Rules(rounds, round_ms / 1e3, limit, residuals)
    conditions = Conditions(_threads(threads or ["1"]), dtype, training, rules, out, as_json)
    if (target is None) == (cases is None):
        raise ArgumentError(
            "'LAYER|MODEL' or '--cases' must be given, and not both: see outstride bench --help."
        )
    if cases is not None:
        _table(cases, only or [], conditions)
    elif target is not None:
        _target(target, size, batch, conditions)


def _threads(texts: list[str]) -> list[int]:
    from outstride.errors import ArgumentError

    parts = [part.strip() for text in texts for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 1024 for part in parts):
        raise ArgumentError(
            f"'threads' must be whole numbers from 1: got {','.join(texts)!r}; legal: 1 or 1,2."
        )
    return list(dict.fromkeys(int(part) for part in parts))


def _table(path: Path, only: list[str], conditions: Conditions) -> None:
    from outstride.bench import report, table
    from outstride.bench.cases import read_cases, select

    cases = read_cases(path)
    if conditions.training and not only:
        cases = [case for case in cases if case.id in table.TRAINING] or cases
    jobs = [table.Job.of_case(case) for case in select(cases, only)]
    _run(jobs, table.CONTENDERS, conditions, report.heading(), report.line)


def _target(target: str, size: str, batch: int, conditions: Conditions) -> None:
    from outstride.bench import report, table
    from outstride.bench.cases import Case, parse_size
    from outstride.bench.contest import installed
    from outstride.errors import ArgumentError
    from outstride.spec import ConvSpec

    if "(" not in target and ":" not in target:
        raise ArgumentError(
            f"'LAYER|MODEL' must be a layer as torch writes it or module:callable: got {target!r}; "
            'legal: "Conv2d(3, 64, 3)" or torchvision.models:resnet18.'
        )
    if not size:
        raise ArgumentError("'--size' must be given: 64x64 for a layer, 1x3x224x224 for a model.")
    shape = parse_size(size, "size")
    if "(" in target:
        case = Case.from_spec(ConvSpec.parse(target), batch, shape, target)
        # The workers would refuse a size that fits nothing too, but only after each of them has started.
        assert case.output_size
        job = table.Job.of_case(case)
    elif ":" in target:
        job = table.Job.of_model(target, shape)
    else:
        raise ArgumentError(
            f"'LAYER|MODEL' must be a layer as torch writes it or module:callable: got {target!r}; "
            'legal: "Conv2d(3, 64, 3)" or torchvision.models:resnet18.'
        )
    _run([job], installed(), conditions, "", report.comparison)


def _run(
    jobs: list[Job],
    contenders: Sequence[str],
    conditions: Conditions,
    heading: str,
    form: Callable[[Row], str],
) -> None:
    from outstride.bench import report, table
    from outstride.bench.contest import WorkerError
    from outstride.cli.screen import print_json

    if heading and not conditions.as_json:
        print(heading, flush=True)
    rows: list[Row] = []
    content: dict[str, Any] = {}
    for row in table.run(
        jobs, conditions.threads, conditions.dtype, conditions.training, contenders, conditions.rules
    ):
        if len(jobs) == 1 and row.flops is None:
            reasons = dict.fromkeys(timing.error for timing in row.timings.values() if timing.error)
            raise WorkerError(f"nobody could time {row.job.id}: {'; '.join(reasons)}")
        rows.append(row)
        content = table.to_dict(rows, conditions.rules)
        if not conditions.as_json:
            print(form(row), flush=True)
        if conditions.out is not None:
            table.save(conditions.out, content)
    if conditions.as_json:
        print_json(content)
    elif heading:
        print("\n".join(report.closing(content["summary"])))
