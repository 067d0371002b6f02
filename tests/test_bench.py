"""The benchmark: what it counts, what it reads, and how a contest goes on when a contender does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outstride.bench import report, table
from outstride.bench.cases import COLUMNS, Case, parse_size, read_cases, select
from outstride.bench.contest import Contest, Rules, Timing
from outstride.bench.flops import pairs, useful_flops
from outstride.bench.table import Job, Row
from outstride.errors import ArgumentError
from outstride.spec import ConvSpec

LAYERS = Path(__file__).parents[1] / "bench" / "layers.csv"
QUICK = Rules(rounds=2, round_seconds=0.001, limit_seconds=60)
FACTORIES = """
import os, time
from torch import nn
def layer(): return nn.Sequential(nn.Conv1d(2, 3, 3), nn.ConvTranspose1d(3, 2, 3))
def sleeper(): time.sleep(600)
def killer(): os._exit(3)
def number(): return 7
"""


def case_of(text: str, batch: int = 1, size: tuple[int, ...] = (9, 7)) -> Case:
    return Case.from_spec(ConvSpec.parse(text), batch, size, text)


@given(
    n=st.integers(0, 9),
    wide=st.integers(0, 20),
    k=st.integers(1, 5),
    s=st.integers(1, 4),
    p=st.integers(0, 6),
    d=st.integers(1, 3),
)
def test_pairs_are_those_that_meet(n: int, wide: int, k: int, s: int, p: int, d: int) -> None:
    met = sum(0 <= i * s + j * d - p < wide for i, j in product(range(n), range(k)))
    assert pairs(n, wide, k, s, p, d) == met


def test_flops_of_layers_counted_by_hand() -> None:
    # 1x1: every output of every channel pair once; two operations each.
    assert useful_flops(case_of("Conv2d(4, 6, 1)", batch=3)) == 2 * 3 * 4 * 6 * 9 * 7
    # Length 5, kernel 3, padding 1: the two border outputs meet two elements, the others three.
    assert useful_flops(case_of("Conv1d(1, 1, 3, padding=1)", size=(5,))) == 2 * (3 * 3 + 2 * 2)
    # Four elements stamp four taps each; padding 1 crops the first and the last stamped value.
    assert useful_flops(case_of("ConvTranspose1d(1, 1, 4, stride=2, padding=1)", size=(4,))) == 2 * (16 - 2)
    # Two groups halve the channel pairs.
    assert useful_flops(case_of("Conv2d(4, 6, 1, groups=2)")) == useful_flops(case_of("Conv2d(4, 6, 1)")) // 2


@pytest.mark.parametrize(
    "options", ["stride=2, padding=1", "stride=3, dilation=2", "stride=2, output_padding=1"]
)
def test_adjoint_layers_do_the_same_work(options: str) -> None:
    transposed = case_of(f"ConvTranspose2d(3, 5, 4, {options})")
    straight = options.replace(", output_padding=1", "")
    conv = case_of(f"Conv2d(5, 3, 4, {straight})", size=transposed.output_size)
    assert conv.output_size == transposed.input_size
    assert useful_flops(conv) == useful_flops(transposed)


def test_layer_table_is_whole() -> None:
    cases = read_cases(LAYERS)
    assert len({case.id for case in cases}) == len(cases) == 76
    assert set(table.TRAINING) <= {case.id for case in cases}
    assert len(table.TRAINING) == 10
    for case in cases:
        assert useful_flops(case) > 0
        assert Case.from_dict(json.loads(json.dumps(case.to_dict()))) == case
    assert {(case.kind, case.nd) for case in cases} == set(product(("conv", "conv_transpose"), (1, 2, 3)))


def test_select_by_the_beginning_of_the_id() -> None:
    cases = read_cases(LAYERS)
    assert {case.id for case in select(cases, ["fsrcnn_", "sam."])} == {
        "fsrcnn_x2",
        "fsrcnn_x3",
        "sam.0",
        "sam.1",
    }
    assert select(cases, []) == cases
    with pytest.raises(ArgumentError, match="got nothing-starts-so"):
        select(cases, ["nothing-starts-so"])


GOOD = dict(zip(COLUMNS, "a,conv,2,1,3,8x8,4,3x3,1x1,1x1,0x0,1x1,1,m".split(","), strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel_size": "3"}, "'kernel_size' must have nd=2 numbers"),
        ({"stride": "0x1"}, "line 2 .* 'stride'"),
        ({"kind": "pool"}, "'kind' must be one of conv, conv_transpose"),
        ({"batch": "0"}, "'batch' must be whole numbers of at least 1"),
        ({"input_size": "8y8"}, "'input_size' must be whole numbers"),
        ({"groups": "2"}, "'groups'|'in_channels'"),
    ],
)
def test_bad_rows_are_refused_with_their_line(change: dict[str, str], message: str, tmp_path: Path) -> None:
    path = tmp_path / "layers.csv"
    path.write_text(",".join(COLUMNS) + "\n" + ",".join({**GOOD, **change}.values()) + "\n")
    with pytest.raises(ArgumentError, match=message):
        read_cases(path)


@pytest.mark.parametrize("content", ["", "id,kind\na,conv\n", ",".join(COLUMNS) + "\n", "\0\1"])
def test_files_that_are_no_table_are_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "layers.csv"
    path.write_text(content)
    with pytest.raises(ArgumentError, match="'cases' must"):
        read_cases(path)


@pytest.mark.parametrize("text", ["", "x", "3x", "-3", "3.5", "3x0"])
def test_sizes_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ArgumentError, match="'SIZE' must be whole numbers"):
        parse_size(text, minimum=1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MaxPool2d(3)", "must be a conv"),
        ("Conv2d(kernel_size=3)", "in_channels"),
        ("Conv2d(3, 4, 3, padding_mode='circular', padding=1)", "padding_mode"),
        ("Conv2d(3, 4, 4, padding='same')", "same on both sides"),
        ("Conv1d(3, 4, 3)", "1 axes"),
    ],
)
def test_what_torch_cannot_be_timed_on_is_refused(text: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        case_of(text)


def row(name: str, threads: int, ours: float | None, theirs: float | None, peak: float | None = None) -> Row:
    timings = {
        "outstride": Timing(median_ms=ours, flops=8_000_000, error=None if ours else "declined"),
        "torch": Timing(median_ms=theirs, flops=8_000_000, residual=1e-7),
    }
    return Row(Job(name, {}), threads, "float32", False, timings, peak)


def test_summary_counts_means_and_slower_rows() -> None:
    rows = [row("a", 1, 1.0, 4.0), row("b", 1, 2.0, 1.0), row("c", 1, None, 1.0), row("a", 2, 1.0, 3.0)]
    one, two = table.summary(rows)
    assert one["geometric_mean"] == pytest.approx(2**0.5)
    assert (one["layers"], one["slower"], one["unmeasured"]) == (3, {"b": 0.5}, ["c"])
    assert (two["threads"], two["geometric_mean"], two["slower"]) == (2, pytest.approx(3.0), {})
    text = "\n".join(report.closing([one, two]))
    assert "1 thread: 3 layers, 1.41 times torch" in text
    assert "slower than torch: b 0.50" in text
    assert "without a ratio: c" in text


def test_rows_give_rates_and_shares() -> None:
    timed = row("a", 1, 2.0, 4.0, peak=8e9)
    assert timed.ratio == 2.0
    assert timed.gflops("outstride") == pytest.approx(4.0)
    assert timed.of_peak("outstride") == pytest.approx(0.5)
    assert "declined" in report.line(row("c", 1, None, 1.0))
    assert len(report.line(timed)) == len(report.heading())


def test_results_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    table.save(path, table.to_dict([row("a", 1, 1.0, 2.0)], QUICK))
    content = json.loads(path.read_text())
    assert content["rows"][0]["ratio"] == 2.0
    assert content["machine"]["cpu"]
    assert content["machine"]["versions"]["torch"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def contest() -> Iterator[Contest]:
    with Contest(table.CONTENDERS, 1, QUICK) as running:
        yield running


@pytest.mark.parametrize(
    ("text", "training"),
    [("ConvTranspose2d(3, 4, 4, stride=2, padding=1)", False), ("Conv1d(4, 4, 3, groups=2)", True)],
)
def test_contest_times_and_checks_both(contest: Contest, text: str, training: bool) -> None:
    case = case_of(text, size=(6, 5) if "2d" in text else (40,))
    timings = contest.time({"case": case.to_dict()}, "float32", training)
    assert list(timings) == ["outstride", "torch"]
    for timing in timings.values():
        assert timing.error is None
        assert timing.median_ms is not None
        assert timing.minimum_ms is not None
        assert 0 < timing.minimum_ms <= timing.median_ms
        assert timing.residual is not None
        assert timing.residual < 1e-5
        assert timing.flops == useful_flops(case) * (3 if training else 1)


def test_contest_survives_contenders_that_fail_hang_or_die(contest: Contest, tmp_path: Path) -> None:
    factories = tmp_path / "factories.py"
    factories.write_text(FACTORIES)

    def of(name: str, limit: float = 60) -> dict[str, Timing]:
        contest.rules = Rules(rounds=1, round_seconds=0.001, limit_seconds=limit)
        return contest.time({"model": f"{factories}:{name}", "shape": [1, 2, 20]})

    assert all("returned int" in str(timing.error) for timing in of("number").values())
    # Both processes run by now, so the limit holds from here, without the time that a start may take.
    assert all("took longer than its" in str(timing.error) for timing in of("sleeper", 0.5).values())
    assert all("died (exit code 3)" in str(timing.error) for timing in of("killer").values())
    for timing in of("layer").values():
        assert timing.error is None
        assert timing.flops == 2 * 2 * 3 * 3 * 18 * 2
