"""`outstride bench`: time a layer, a model or a table of layers against torch and other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outstride.cli.options import refuse
from outstride.cli.wording import typed
from outstride.layer.shortening import ALGORITHMS

if TYPE_CHECKING:
    from outstride.bench.session import Session
    from outstride.bench.table import Job

DTYPES = ("float32", "float64", "bfloat16", "float16")
LIMIT_SECONDS = {"layers": 60.0, "models": 1200.0}
STUDIES = ("first", "lengths", "memory", "growth", "trained")


def bench(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[LAYER|MODEL]",
            help="A layer as torch writes it, or a model: package.module:callable, file.py:callable, "
            "timm:NAME or PROGRAM.pt2.",
        ),
    ] = None,
    size: Annotated[
        str,
        typer.Option(
            help="Input size: 64x64 for a layer, batch and channels too for a model, 1x3x224x224, "
            "unless it comes with an input."
        ),
    ] = "",
    batch: Annotated[int, typer.Option(min=1, help="Batch of a layer.")] = 1,
    threads: Annotated[
        list[str] | None, typer.Option(help="Threads: 1 or 1,2; may be repeated. One where none is given.")
    ] = None,
    dtype: Annotated[str, typer.Option(help=f"One of {', '.join(DTYPES)}.")] = "float32",
    algorithm: Annotated[
        str, typer.Option(help=f"What this package's layers are computed by: one of {', '.join(ALGORITHMS)}.")
    ] = "auto",
    training: Annotated[bool, typer.Option("--training", help="Time forward and both gradients.")] = False,
    cases: Annotated[Path | None, typer.Option(help="A table of layers to time instead (CSV).")] = None,
    models: Annotated[
        str, typer.Option(help="A Python file or module of functions that return models and their inputs.")
    ] = "",
    study: Annotated[
        str, typer.Option(help=f"Look at something else than medians: one of {', '.join(STUDIES)}.")
    ] = "",
    report: Annotated[
        list[Path] | None,
        typer.Option(help="Write performance.md and its pictures from a file of results; may be repeated."),
    ] = None,
    readme: Annotated[
        Path | None,
        typer.Option(help="With --report: put short tables of the first file into this page, too."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--filter", "--only", help="Rows whose id or model holds this text; may be repeated."),
    ] = None,
    contenders: Annotated[
        str, typer.Option(help="Whom to time, with commas between; all that are installed where not given.")
    ] = "",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which the contenders take turns.")] = 5,
    round_ms: Annotated[float, typer.Option(min=0.1, help="Least time of a contender in a round.")] = 20.0,
    limit: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds that one row may take: 60 for a layer, 1200 for a model."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0, help="Begin no row after so many seconds; 0: no end.")] = 0,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds that a row waits for others to leave the cores alone.")
    ] = 10.0,
    residuals: Annotated[bool, typer.Option(help="Compare with the float64 result.")] = True,
    out: Annotated[
        Path | None,
        typer.Option(help="Write all figures to this JSON file, or into this folder; with --report: there."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the rows that --out lacks.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Time a layer, a model or a table of layers here, against torch and other installed libraries.

    Every contender runs in a process of its own, on the same cores, in turn with the others, its weights
    prepacked and its output bound where it can. Figures are medians. The limit is the longer of computing
    at the rate of pure multiply-adds and copying the least bytes, both measured beside each row. The residual
    is the largest distance from the float64 result, as a share of the largest value; "direct" is that of the
    direct chain, where this package takes short algorithms.

    Examples:

    outstride bench "ConvTranspose2d(64, 32, 4, stride=2, padding=1)" --size 64x64 --threads 1,2

    outstride bench --cases bench/layers.csv --filter ResNet --threads 1,2 --out results.json

    outstride bench --cases bench/layers.csv --out docs/performance --seconds 200 --resume

    outstride bench --models bench/models.py --threads 1,2 --out results.json --resume

    outstride bench timm:resnet18

    outstride bench --study memory --out results.json --resume

    outstride bench --study trained --out results.json --resume

    outstride bench --report results.json --out docs
    """
    from outstride.bench.contenders import choose
    from outstride.bench.contest import Rules
    from outstride.bench.session import Session
    from outstride.errors import ArgumentError

    if dtype not in DTYPES:
        raise ArgumentError(f"'--dtype' must be one of {', '.join(DTYPES)}: got {dtype!r}.")
    if algorithm not in ALGORITHMS:
        raise ArgumentError(f"'--algorithm' must be one of {', '.join(ALGORITHMS)}: got {algorithm!r}.")
    if study and study not in STUDIES:
        raise ArgumentError(f"'--study' must be one of {', '.join(STUDIES)}: got {study!r}.")
    if out is not None and not out.absolute().parent.is_dir():
        raise ArgumentError(f"'--out' must lie in a folder that exists: got {str(out)!r}.")
    if out is not None and out.suffix.lower() != ".json" and not out.is_dir():
        raise ArgumentError(
            f"'--out' must be a .json file or a folder: got {str(out)!r}; legal: results.json."
        )
    if readme is not None and not report:
        raise ArgumentError("'--readme' must stand beside --report, whose figures it tells.")
    if report:
        others = {parameter.name or "" for parameter in context.command.params} - {"report", "readme", "out"}
        refuse(context, others, "'--report'")
        _report(report, out, readme)
        return
    if sum(map(bool, (target, cases, models, study))) != 1:
        raise ArgumentError(
            "'LAYER|MODEL' or '--cases' must be given, and not both: see outstride bench --help "
            "(--models, --study and --report stand alone too)."
        )
    _refuse_idle(context, target, "'--cases'" if cases else "'--models'" if models else "", study, out)
    kind = "models" if models or (target is not None and "(" not in target) else "layers"
    limit = limit or LIMIT_SECONDS[kind]
    if study == "growth":
        # Each of its largest inputs takes a gigabyte in every process, and eight more in float64.
        contenders, residuals = contenders or _for_growth(), False
    with typed(
        cases="--cases",
        models="--models",
        filter="--filter",
        contenders="--contenders",
        results="--out",
        out="--out",
    ):
        session = Session(
            threads=_threads(threads or ["1"]),
            contenders=choose(
                [one.strip() for one in contenders.split(",") if one.strip()], training, dtype, kind
            ),
            dtype=dtype,
            training=training,
            algorithm=algorithm,
            rules=Rules(rounds, round_ms / 1e3, limit, residuals, patience),
            out=out,
            resume=resume,
            seconds=seconds,
            quiet=as_json,
        )
        if study and study != "growth":
            session.observe(study, only or [])
        else:
            jobs = (
                _models(models, only or [])
                if models
                else _jobs(target, cases, size, batch, only or [], session)
            )
            session.time(jobs, as_table=target is None)
    if as_json:
        from outstride.cli.screen import print_json

        print_json(session.results.to_dict())


def _refuse_idle(
    context: typer.Context, target: str | None, several: str, study: str, out: Path | None
) -> None:
    """Refuse what the target, the table or the study does not listen to."""
    if out is None:
        refuse(context, ["resume"], "results that are not kept by '--out'")
    if target is not None:
        refuse(context, ["only"], "a single layer or model")
        if "(" not in target:
            refuse(context, ["batch"], "a model, whose batch stands in '--size'")
        return
    refuse(context, ["size", "batch"], several or "'--study'")
    if study and study != "growth":
        rules = ["rounds", "round_ms", "limit", "patience", "residuals"]
        rules += ["contenders"] if study == "trained" else []
        refuse(context, ["dtype", "algorithm", "training", *rules], f"'--study {study}'")


def _for_growth() -> str:
    from outstride.bench.contenders import installed
    from outstride.bench.studies import GROWTH_CONTENDERS

    return ",".join(name for name in GROWTH_CONTENDERS if name in installed())


def _threads(texts: list[str]) -> list[int]:
    from outstride.errors import ArgumentError

    parts = [part.strip() for text in texts for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= 1024 for part in parts):
        raise ArgumentError(
            f"'--threads' must be whole numbers from 1: got {','.join(texts)!r}; legal: 1 or 1,2."
        )
    return list(dict.fromkeys(int(part) for part in parts))


def _report(files: list[Path], out: Path | None, readme: Path | None) -> None:
    from outstride.bench import document, excerpt
    from outstride.errors import ArgumentError

    folder = out or Path()
    if not folder.is_dir():
        raise ArgumentError(f"'--out' must be a folder that exists, for --report: got {str(folder)!r}.")
    with typed(results="--report", report="--report", readme="--readme"):
        if readme is not None:
            excerpt.filled(files[0], readme)  # a page that cannot be filled, before anything is written
        for path in document.write(files, folder):
            print(path)
        if readme is not None:
            print(excerpt.write(files[0], readme))


def _jobs(
    target: str | None, path: Path | None, size: str, batch: int, only: list[str], session: Session
) -> list[Job]:
    from outstride.bench import studies, table
    from outstride.bench.cases import read_cases, select

    if target is not None:
        return [_target(target, size, batch, session)]
    if path is None:
        return [table.Job.of_case(case, "growth") for case in select(studies.growing(), only)]
    cases = read_cases(path)
    if session.training and not only:
        cases = [case for case in cases if case.id in table.TRAINING] or cases
    return [table.Job.of_case(case, path.stem) for case in select(cases, only)]


def _models(where: str, only: list[str]) -> list[Job]:
    """A job for each model of a file or a module, under its function's name."""
    from outstride.bench import targets
    from outstride.bench.cases import named
    from outstride.bench.table import Job

    found = targets.factories(where)
    suite = Path(where).stem if where.endswith(".py") else where.rpartition(".")[2]
    words = {name: f"{name} {about}" for name, about in found.items()}
    return [Job.of_model(f"{where}:{name}", name=name, suite=suite) for name in named(words, only)]


def _target(target: str, size: str, batch: int, session: Session) -> Job:
    from outstride.bench import table, work
    from outstride.bench.cases import Case, parse_size
    from outstride.cli.layer import read_built, read_size
    from outstride.errors import ArgumentError

    if "(" not in target and ":" not in target and not target.endswith(".pt2"):
        raise ArgumentError(
            f"'LAYER|MODEL' must be a layer as torch writes it, module:callable or a saved program: got "
            f'{target!r}; legal: "Conv2d(3, 64, 3)", torchvision.models:resnet18, timm:resnet18 or model.pt2.'
        )
    if "(" not in target:
        shape = parse_size(size, "--size", minimum=1) if size else ()
        job = table.Job.of_model(target, shape, suite="single_models")
    elif not size:
        raise ArgumentError("'--size' must be given: 64x64 for a layer, 1x3x224x224 for a model.")
    else:
        spec = read_built(target, "LAYER|MODEL", ("dtype", "algorithm"))
        with typed(input_size="--size"):
            case = Case.from_spec(spec, batch, read_size(size, spec, "--size"), target)
            assert case.output_size
        job = table.Job.of_case(case)
    work.check(job.source, session.dtype, session.training)
    return job
