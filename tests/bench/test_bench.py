"""The benchmark: what it counts, what it reads, and how a contest goes on when a contender does not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise, product
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from outstride.bench import report, results, studies, table
from outstride.bench.cases import COLUMNS, Case, parse_size, read_cases, select
from outstride.bench.contenders import CONTENDERS, choose, installed
from outstride.bench.contest import Contest, Outcome, Rules, Timing
from outstride.bench.flops import least_elements, pairs, useful_flops
from outstride.bench.limits import copy_rate
from outstride.bench.machine import cores, idlest_cores, wait_for_cores
from outstride.bench.process import Process
from outstride.bench.results import Results
from outstride.bench.table import Job, Row
from outstride.bench.work import Work, residual
from outstride.errors import ArgumentError, UnsupportedError
from outstride.layer.spec import ConvSpec
from tests import ROOT
from tests.tolerance import assert_within, assert_within_roundings

LAYERS = ROOT / "bench" / "layers.csv"
QUICK = Rules(rounds=2, round_seconds=0.001, limit_seconds=60, patience_seconds=0)
BOTH = ("outstride", "torch")
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


def test_select_by_a_part_of_the_id_or_the_model() -> None:
    cases = read_cases(LAYERS)
    chosen = {"fsrcnn_x2", "fsrcnn_x3", "sam.0", "sam.1"}
    assert {case.id for case in select(cases, ["fsrcnn_x", "SAM mask"])} == chosen
    assert select(cases, []) == cases
    with pytest.raises(ArgumentError, match="got nothing-holds-this"):
        select(cases, ["nothing-holds-this"])


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


def row(name: str, threads: int, ours: float | None, theirs: float | None, **more: float) -> Row:
    timings = {
        "outstride": Timing([ours] if ours else [], residual=1e-7, error=None if ours else "declined"),
        "torch": Timing([theirs] if theirs else [], residual=1e-7),
        **{peer: Timing([time]) for peer, time in more.items()},
    }
    return Row(Job(name, {}, "suite"), threads, "float32", False, timings, 8_000_000, 4_000_000, 8e9, 1e9)


def test_summary_counts_means_and_slower_rows() -> None:
    rows = [row("a", 1, 1.0, 4.0), row("b", 1, 2.0, 1.0), row("c", 1, None, 1.0), row("a", 2, 1.0, 3.0)]
    one, two = table.summary(rows)
    assert one["geometric_mean"] == one["lead"]
    assert_within_roundings(one["lead"], 2**0.5, 8, "a mean of logarithms")
    assert (one["layers"], one["slower"], one["unmeasured"]) == (3, {"b": 0.5}, ["c"])
    assert (two["threads"], two["slower"]) == (2, {})
    assert_within_roundings(two["geometric_mean"], 3.0, 8, "a mean of logarithms")
    text = "\n".join(report.closing([one, two]))
    assert "1 thread, 3 rows, geometric means: 1.41 times torch, 1.41 times the best peer" in text
    assert "slower than torch: b 0.50" in text
    assert "without a ratio: c" in text


def test_rows_give_rates_shares_and_the_lead_over_the_best_peer() -> None:
    timed = row("a", 1, 8.0, 16.0, outstride_channels_last=5.0, onnxruntime=10.0, mnn=20.0)
    assert timed.ratio == 2.0
    assert (timed.ours, timed.best_peer, timed.lead) == ("outstride_channels_last", "onnxruntime", 2.0)
    assert_within_roundings(timed.gflops("outstride"), 1.0, 8, "a few quotients")
    # 8 MFLOP at 8 GFLOP/s take 1 ms, 4 MB at 1 GB/s take 4: copying is the limit.
    assert_within_roundings(timed.limit_ms, 4.0, 8, "a few quotients")
    assert_within_roundings(timed.of_limit("outstride"), 0.5, 8, "a few quotients")
    assert "declined" in report.line(row("c", 1, None, 1.0), BOTH)
    names = list(timed.timings)
    assert len(report.line(timed, names)) == len(report.heading(names))


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("Conv2d(8, 8, 3, padding=1)", True),
        ("Conv2d(8, 8, 3, stride=2)", False),
        ("Conv2d(8, 8, 3, groups=8)", False),
        ("Conv2d(8, 8, 1)", False),
        ("ConvTranspose2d(8, 8, 3)", False),
    ],
)
def test_winograd_is_marked_and_counts_like_any_other_way(text: str, marked: bool) -> None:
    timings = {"outstride": Timing([2.0]), "torch": Timing([3.0]), "mnn": Timing([1.0], residual=1e-3)}
    timed = Row(Job.of_case(case_of(text)), 1, "float32", False, timings)
    assert (timed.best_peer, timed.lead) == ("mnn", 0.5)
    assert ("w " in report.line(timed, list(timings))) is marked
    assert ("Winograd" in report.comparison(timed)) is marked


def test_disturbed_rounds_only_fill_up() -> None:
    timing = Timing([2.0, 2.1, 2.2], [9.0, 5.0, 7.0])
    timing.settle(4)
    assert timing.rounds_ms == [2.0, 2.1, 2.2, 5.0]
    calm = Timing([2.0, 2.1], [1.0])
    calm.settle(2)
    assert (calm.median_ms, calm.minimum_ms, calm.spread) == (2.05, 2.0, None)
    assert_within_roundings(Timing([1.0, 2.0, 3.0, 4.0]).spread, 0.4, 8, "a quotient of differences")


def test_results_are_written_whole_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text("old")
    whole = Results(rules={}, limits=[{"threads": 1}])
    for ours in (7.0, 1.0):
        whole.add(row("a", 1, ours, 2.0))  # measured again: the later one counts
        whole.observe("memory", {"id": "a", "extra_bytes": ours}, ["id"])
    whole.save(path)
    content = json.loads(path.read_text())
    assert [found["ratio"] for found in content["rows"]] == [2.0]
    assert content["studies"] == {"memory": [{"id": "a", "extra_bytes": 1.0}]}
    assert content["machine"]["cpu"]
    assert content["machine"]["versions"]["torch"]
    assert list(tmp_path.iterdir()) == [path]
    again = results.begin(path, QUICK, resume=True)
    assert (again.rows, again.limits) == (whole.rows, whole.limits)
    assert results.begin(path, QUICK, resume=False).rows == []
    for name in ("cpu", "architecture"):
        of_another = {**content, "machine": {**content["machine"], name: "another"}}
        path.write_text(json.dumps(of_another))
        with pytest.raises(ArgumentError, match=r"results of this machine.* got those of .*another"):
            results.begin(path, QUICK, resume=True)
    path.write_text("{}")
    with pytest.raises(ArgumentError, match="that outstride bench --out wrote"):
        results.begin(path, QUICK, resume=True)


def test_limits_are_of_this_machine() -> None:
    assert copy_rate(1 << 20) > 0
    assert least_elements(case_of("Conv2d(4, 6, 3)", batch=2)) == 2 * 4 * 63 + 4 * 6 * 9 + 6 + 2 * 6 * 35
    assert isinstance(wait_for_cores(1, 0), bool)
    assert len(idlest_cores(1)) == 1
    assert idlest_cores(1000) == idlest_cores(cores())


def test_contenders_are_chosen_by_name() -> None:
    assert choose(["torch", "outstride"]) == ["outstride", "torch"]
    assert choose([]) == installed()
    assert all("training" in CONTENDERS[name].also for name in choose([], training=True))
    assert choose(["torch", "onnxruntime"], dtype="float16") == ["torch"]
    with pytest.raises(ArgumentError, match="got 'tensorflow'"):
        choose(["torch", "tensorflow"])
    with pytest.raises(ArgumentError, match="able to train: got torch_compile"):
        choose(["torch_compile"], training=True)


EVERY_OPTION = (
    ("Conv2d(6, 4, 3, stride=2, padding=1, dilation=2, groups=2)", (9, 8)),
    ("ConvTranspose2d(4, 6, (3, 4), stride=(2, 3), padding=1, output_padding=(1, 0), groups=2)", (5, 6)),
    ("ConvTranspose1d(4, 6, 3, stride=2, padding=2, dilation=2, bias=False)", (9,)),
    ("ConvTranspose3d(2, 3, 2, stride=2)", (3, 2, 4)),
)


@pytest.mark.usefixtures("_own_signal_stack")
@pytest.mark.parametrize("name", list(CONTENDERS))
@pytest.mark.parametrize(("text", "size"), EVERY_OPTION)
def test_every_form_of_every_contender_computes_the_layer(
    name: str, text: str, size: tuple[int, ...]
) -> None:
    contender = CONTENDERS[name]
    if (reason := contender.missing()) is not None:
        pytest.skip(reason)
    if name == "torch_compile" and "1d" not in text:
        pytest.skip("compiling takes seconds: once is enough")
    work = Work({"case": case_of(text, batch=2, size=size).to_dict()}, "float32", False)
    exact, tried = work.reference(), 0
    try:
        for form in contender.forms(work, 1):
            for _ in range(3):
                output = form.run()
            assert residual(form.read(output), exact) < 1e-5, form.name
            tried += 1
    except UnsupportedError as error:
        pytest.skip(str(error))
    assert tried


def test_a_residual_sees_what_is_wrong() -> None:
    work = Work({"case": case_of("Conv1d(2, 3, 3)", size=(9,)).to_dict()}, "float32", True)
    exact = work.reference()
    assert len(exact) == 4  # output, and the gradients of input, weight and bias
    assert residual(exact, exact) == 0
    for i in range(4):
        wrong = [value.clone() for value in exact]
        wrong[i].view(-1)[0] += wrong[i].abs().max()
        assert_within(residual(wrong, exact), 1.0, 1e-6, "the largest value is added in float32")
    assert (
        residual(exact[:3], exact) == residual([exact[0] * float("nan"), *exact[1:]], exact) == float("inf")
    )


def test_what_vanishes_is_measured_by_the_largest_result() -> None:
    exact = [torch.tensor([4.0, -2.0]).double(), torch.tensor([1e-16]).double()]
    near = [torch.tensor([4.0, -2.0]), torch.tensor([4e-7])]
    assert_within(residual(near, exact), 1e-7, 1e-13, "a number of float32 over another")
    assert residual([exact[0] * 0], [exact[0] * 0]) == 0


def test_growing_layers_double_up_to_a_gigabyte() -> None:
    cases = studies.growing()
    conv = [studies.activations(case) * 4 for case in cases if not case.transposed]
    assert conv[0] == 4096
    assert conv[-1] == 1 << 30
    assert {later // earlier for earlier, later in pairwise(conv)} == {2}
    assert len({case.id for case in cases}) == len(cases)
    assert_within_roundings(studies.slope([1, 2, 4], [3, 6, 12]), 1.0, 16, "a line through logarithms")
    assert_within_roundings(
        studies.slope([1, 2, 4], [5, 5, 5]), 0.0, 16, "a line through logarithms", scale=1.0
    )
    assert studies.slope([1], [5]) is None


def test_lengths_are_new_in_every_round() -> None:
    seen = [size for number in range(7) for size in studies.new_lengths(100, number)]
    assert len(set(seen)) == len(seen) == 56
    assert 100 not in seen


@pytest.mark.parametrize("study", ["lengths", "memory", pytest.param("first", marks=pytest.mark.slow)])
def test_studies_find_something_out(study: str) -> None:
    case = case_of("Conv1d(4, 8, 3)", size=(500,))
    (entry, *_) = studies.observe(study, case, ["outstride"], 1)
    assert entry["contender"] == "outstride"
    assert "error" not in entry
    if study == "lengths":
        assert 0 < entry["repeated_ms"] < 1e3
    elif study == "memory":
        assert entry["weight_bytes"] == 4 * (4 * 8 * 3 + 8)
        assert abs(entry["extra_bytes"]) < 1 << 30
    else:
        assert 0 < entry["first_ms"] < 1e5
    assert report.observation(study, entry).startswith("Conv1d(4, 8, 3)  1 thread  outstride")


@pytest.fixture(scope="module")
def contest() -> Iterator[Contest]:
    with Contest(BOTH, 1, QUICK) as running:
        yield running


@pytest.mark.parametrize(
    ("text", "training"),
    [("ConvTranspose2d(3, 4, 4, stride=2, padding=1)", False), ("Conv1d(4, 4, 3, groups=2)", True)],
)
def test_contest_times_and_checks_both(contest: Contest, text: str, training: bool) -> None:
    case = case_of(text, size=(6, 5) if "2d" in text else (40,))
    outcome = contest.time({"case": case.to_dict()}, "float32", training)
    assert outcome.flops == useful_flops(case) * (3 if training else 1)
    assert outcome.bytes == least_elements(case) * 4 * (3 if training else 1)
    assert outcome.copy is not None
    assert outcome.copy > 1e8
    assert list(outcome.timings) == ["outstride", "torch"]
    for timing in outcome.timings.values():
        assert timing.error is None
        assert timing.median_ms is not None
        assert timing.minimum_ms is not None
        assert 0 < timing.minimum_ms <= timing.median_ms
        assert timing.residual is not None
        assert timing.residual < 1e-5


def test_both_algorithms_are_timed_and_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSTRIDE_ALGORITHM", "auto")
    job, found = Job.of_case(case_of("Conv2d(4, 4, 3)", size=(9, 9))), Results()
    for algorithm in ("auto", "direct"):
        with Contest(["outstride"], 1, QUICK, algorithm) as contest:
            made = table.row(job, contest, contest.time(job.source), "float32", False, None)
        chosen = made.timings["outstride"].plan
        assert chosen is not None
        assert chosen["algorithm"] == made.algorithm == algorithm
        found.add(made)
    auto, direct = found.rows
    assert Row.from_dict(direct.to_dict()).key == direct.key != auto.key
    before = {name: value for name, value in auto.to_dict().items() if name != "algorithm"}
    assert Row.from_dict(before).key == auto.key
    summaries = table.summary(found.rows)
    assert [part["algorithm"] for part in summaries] == ["auto", "direct"]
    assert [line.startswith("layers, float32, direct") for line in report.closing(summaries)[::4]] == [0, 1]
    assert [", direct" in report.comparison(row) for row in (auto, direct)] == [False, True]


def test_contest_survives_contenders_that_fail_hang_or_die(contest: Contest, tmp_path: Path) -> None:
    factories = tmp_path / "factories.py"
    factories.write_text(FACTORIES)

    def of(name: str, limit: float = 60) -> Outcome:
        contest.rules = Rules(rounds=1, round_seconds=0.001, limit_seconds=limit, patience_seconds=0)
        return contest.time({"model": f"{factories}:{name}", "shape": [1, 2, 20]})

    def errors(outcome: Outcome) -> list[str]:
        return [str(timing.error) for timing in outcome.timings.values()]

    assert all("returned int" in error for error in errors(of("number")))
    # Both processes run by now, so the limit holds from here, without the time that a start may take.
    assert all("took longer than its" in error for error in errors(of("sleeper", 4)))
    assert all("died (exit code 3)" in error for error in errors(of("killer")))
    outcome = of("layer")
    assert errors(outcome) == ["None", "None"]
    # A row whose time is over keeps what it has.
    contest.rules = Rules(rounds=5, round_seconds=0.001, limit_seconds=1e-9, patience_seconds=0)
    late = contest.time({"model": f"{factories}:layer", "shape": [1, 2, 20]}).timings
    assert len(late["outstride"].rounds_ms) == 1
    assert late["torch"].error == "no time was left of the row's 0 s"
    assert outcome.flops == 2 * 2 * 3 * 3 * 18 * 2


def _raced(contest: Contest, monkeypatch: pytest.MonkeyPatch, taken: Callable[[str], float]) -> Outcome:
    """A race of five rounds between processes that do nothing and say how long a round has `taken`."""

    def ask(process: Process, do: str, limit: float, **_: object) -> dict[str, object]:
        del limit
        seconds = taken(process.contender) if do == "round" else 0
        answers = {"first_ms": 1, "form": "", "plan": None, "flops": 1, "bytes": 1, "residual": 0}
        answers |= {"memory_bytes": 1, "input_shape": [1], "weight_bytes": 1}
        return {**answers, "disturbed": False, "seconds": seconds}

    monkeypatch.setattr(Process, "ask", ask)
    contest.rules = Rules(rounds=5, patience_seconds=0, residuals=False)
    return contest.time({})


@pytest.mark.parametrize(("reference", "turns_of_torch"), [("nobody", 2), ("torch", 5)])
def test_the_slow_give_up_their_turns_but_torch_as_called_does_not(
    contest: Contest, monkeypatch: pytest.MonkeyPatch, reference: str, turns_of_torch: int
) -> None:
    turns: list[str] = []

    def taken(contender: str) -> float:
        turns.append(contender)
        return {"outstride": 0.001, "torch": 0.5}[contender]

    monkeypatch.setattr("outstride.bench.contest.NEVER_GIVES_UP", reference)
    outcome = _raced(contest, monkeypatch, taken)
    assert (turns.count("outstride"), turns.count("torch")) == (5, turns_of_torch)
    assert outcome.timings["torch"].median_ms == 500


def test_one_slow_round_is_no_reason_to_give_up(contest: Contest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A neighbour that nobody saw may have had the machine."""
    seconds = {"outstride": [0.5, *[0.001] * 4], "torch": [0.002] * 5}
    outcome = _raced(contest, monkeypatch, lambda contender: seconds[contender].pop(0))
    assert outcome.timings["outstride"].median_ms == 1
