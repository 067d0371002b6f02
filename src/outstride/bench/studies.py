"""What one median cannot tell: the first call, inputs of changing length, memory, cost as size grows."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from math import log2, prod
from statistics import median
from typing import Any

from outstride.bench.cases import Case
from outstride.bench.contest import CACHES
from outstride.bench.machine import idlest_cores
from outstride.bench.process import Process, WorkerError
from outstride.layer.spec import ConvSpec

SECONDS = 120.0
REPEATS = 3
LENGTH_ROUNDS, LENGTHS_A_ROUND = 7, 8
KEY = ("id", "threads", "contender", "cache")

FIRST = (
    ("Conv2d(64, 64, 3, padding=1)", (56, 56)),
    ("ConvTranspose2d(128, 64, 4, stride=2, padding=1)", (32, 32)),
    ("ConvTranspose1d(512, 256, 16, stride=8, padding=4)", (283,)),
    ("Conv3d(32, 32, 3, padding=1)", (32, 32, 32)),
)
LENGTHS = (
    ("Conv1d(32, 32, 3, padding=1)", (18000,)),
    ("ConvTranspose1d(128, 64, 4, stride=2, padding=1)", (4500,)),
    ("ConvTranspose1d(512, 256, 16, stride=8, padding=4)", (140,)),
    ("Conv2d(64, 64, 3, padding=1)", (56, 56)),
)
MEMORY = (
    ("Conv2d(64, 64, 3, padding=1)", (512, 512)),
    ("Conv2d(512, 512, 3, padding=1)", (32, 32)),
    ("ConvTranspose2d(128, 64, 2, stride=2)", (256, 256)),
    ("ConvTranspose2d(56, 1, 9, stride=3, padding=4, output_padding=2)", (360, 640)),
    ("ConvTranspose1d(96, 96, 12, stride=2, groups=96)", (65576,)),
    ("ConvTranspose3d(64, 16, 2, stride=2)", (64, 64, 32)),
)
GROWTH = ("Conv2d(16, 16, 3, padding=1)", "ConvTranspose2d(16, 16, 4, stride=2, padding=1)")
GROWTH_CONTENDERS = ("outstride", "torch", "onnxruntime", "openvino")
SMALLEST_PIXELS, LARGEST_BYTES = 32, 1 << 30

STUDIES = {"first": FIRST, "lengths": LENGTHS, "memory": MEMORY}


def layers(study: str) -> list[Case]:
    """The layers of a study."""
    return [_case(text, size) for text, size in STUDIES[study]]


def growing() -> list[Case]:
    """The same two layers on inputs that double, from 32 pixels until input and output take a gigabyte."""
    cases = []
    for text in GROWTH:
        height, width = 4, SMALLEST_PIXELS // 4
        while True:
            case = _case(text, (height, width), f"{text} {height}x{width}")
            cases.append(case)
            if activations(case) * 4 >= LARGEST_BYTES:
                break
            height, width = width, 2 * height
    return cases


def activations(case: Case) -> int:
    """How many elements input and output have together."""
    return case.batch * (
        case.in_channels * prod(case.input_size) + case.out_channels * prod(case.output_size)
    )


def slope(sizes: Sequence[float], times: Sequence[float]) -> float | None:
    """The exponent e of the best fit of times ~ sizes ** e: 1 where cost grows as size does."""
    if len(sizes) < 2:
        return None
    xs, ys = [log2(size) for size in sizes], [log2(t) for t in times]
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    below = sum((x - mean_x) ** 2 for x in xs)
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / below if below else None


def observe(study: str, case: Case, contenders: Sequence[str], threads: int) -> Iterator[dict[str, Any]]:
    """What the study finds out about one layer, an entry for each contender."""
    find = {"first": _first, "lengths": _lengths, "memory": _memory}[study]
    request = {"source": {"case": case.to_dict()}, "dtype": "float32"}
    for entry in find(request, case, contenders, threads):
        yield {"id": case.id, "size": list(case.input_size), "threads": threads, "cache": "", **entry}


def _first(
    request: dict[str, Any], case: Case, contenders: Sequence[str], threads: int
) -> Iterator[dict[str, Any]]:
    del case
    for name in contenders:
        found: dict[str, list[float]] = {}
        error = None
        for _ in range(REPEATS):
            with tempfile.TemporaryDirectory() as folder:
                environment = {CACHES[name]: folder} if name in CACHES else {}
                for cache in ("empty", "filled") if name in CACHES else ("",):
                    reply = _alone(name, threads, "first_call", request, environment)
                    error = reply.get("error", error)
                    found.setdefault(cache, []).extend(1e3 * s for s in [reply.get("first_seconds")] if s)
        for cache, times in found.items():
            timed = {"first_ms": median(times)} if times else {"error": error}
            yield {"contender": name, "cache": cache, **timed}


def _memory(
    request: dict[str, Any], case: Case, contenders: Sequence[str], threads: int
) -> Iterator[dict[str, Any]]:
    del case
    for name in contenders:
        yield {"contender": name, **_alone(name, threads, "memory", request, {})}


def _alone(
    name: str, threads: int, do: str, request: dict[str, Any], environment: dict[str, str]
) -> dict[str, Any]:
    """Ask a process that has done nothing before and does nothing after."""
    with _started(name, threads, environment) as process:
        try:
            return process.ask(do, SECONDS, **request)
        except WorkerError as error:
            return {"error": str(error)}


def _lengths(
    request: dict[str, Any], case: Case, contenders: Sequence[str], threads: int
) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        processes = [stack.enter_context(_started(name, threads, {})) for name in contenders]
        rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
        errors: dict[str, str] = {}
        for number in range(LENGTH_ROUNDS):
            sizes = new_lengths(case.input_size[-1], number)
            for process in processes:
                if process.contender in errors:
                    continue
                time.sleep(0.003)
                try:
                    reply = process.ask("lengths", SECONDS, lengths=sizes, **request)
                    rounds[process.contender].append(reply)
                except WorkerError as error:
                    errors[process.contender] = str(error)
    for name, replies in rounds.items():
        if name in errors:
            yield {"contender": name, "error": errors[name]}
            continue
        new, again = ([1e3 * r[key] for r in replies] for key in ("new_seconds", "repeated_seconds"))
        ratios = [first / second for first, second in zip(new, again, strict=True)]
        yield {
            "contender": name,
            "new_ms": median(new),
            "repeated_ms": median(again),
            "times_repeated": median(ratios),
            "lengths": LENGTH_ROUNDS * LENGTHS_A_ROUND,
        }


def new_lengths(middle: int, number: int) -> list[int]:
    """Lengths around the middle, none of which any other round has."""
    offsets = (
        number + LENGTH_ROUNDS * i - LENGTH_ROUNDS * LENGTHS_A_ROUND // 2 for i in range(LENGTHS_A_ROUND)
    )
    return [middle + (offset if offset < 0 else offset + 1) for offset in offsets]


@contextmanager
def _started(name: str, threads: int, environment: dict[str, str]) -> Iterator[Process]:
    cores = idlest_cores(threads)
    with closing(Process(name, threads, cores, environment)) as process:
        process.ask("ready", SECONDS)
        yield process


def _case(text: str, size: tuple[int, ...], name: str = "") -> Case:
    return Case.from_spec(ConvSpec.parse(text), 1, size, name or text)
