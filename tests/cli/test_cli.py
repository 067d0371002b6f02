"""The command line: every verb helps, answers, refuses in one line, pipes cleanly and stops when told."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch.nn import Conv2d
from typer.testing import CliRunner

from outstride.cli import main
from outstride.cli.app import app
from outstride.functional import conv2d
from outstride.geometry import input_sizes, output_size
from outstride.layer.spec import ConvSpec
from tests import ROOT

VERBS = (
    "demo",
    "bench",
    "plan",
    "size",
    "solve",
    "check",
    "artifacts",
    "explain",
    "kernels",
    "tile",
    "studio",
    "cache",
    "info",
)
UP = "ConvTranspose2d(64, 32, 4, stride=2, padding=1)"
COMMAND = [sys.executable, "-m", "outstride"]


class Outcome(NamedTuple):
    """What a command came to."""

    code: object
    out: str
    err: str


Run = Callable[..., Outcome]
narrow = Conv2d(3, 4, 3)


def __getattr__(name: str) -> Any:
    """A module whose import fails as torchvision's does that was built for another torch."""
    if name == "unimportable":
        raise RuntimeError("built elsewhere")
    raise AttributeError(name)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """The command, run in this process."""

    def outstride(*arguments: str) -> Outcome:
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        captured = capsys.readouterr()
        return Outcome(stop.value.code, captured.out, captured.err)

    return outstride


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_helps_with_an_example(verb: str) -> None:
    result = CliRunner().invoke(app, [verb, "--help"])
    assert result.exit_code == 0
    assert re.search(rf"Examples?:\s+outstride {verb}", result.output)


def test_help_is_wrapped_at_the_terminal_and_not_where_the_source_is() -> None:
    lines = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["demo", "--help"]).output.splitlines()
    assert any("enlarged, compared with bicubic and saved as a panel." in line for line in lines)


def test_verbs_are_listed_without_loading_torch_or_the_compiler() -> None:
    program = (
        "import sys\nfrom outstride.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit as stop: assert stop.code == 0, stop.code\n"
        "assert not {'torch', 'llvmlite', 'numpy', 'matplotlib'} & sys.modules.keys()\n"
    )
    for arguments in (["--help"], [], ["size", UP, "7x7"], ["--version"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if arguments in ([], ["--help"]):
            assert [verb for verb in VERBS if f" {verb} " in done.stdout] == list(VERBS)


def test_version(run: Run) -> None:
    from outstride import __version__

    assert run("--version") == (0, f"outstride {__version__}\n", "")


def test_size_shows_its_arithmetic(run: Run) -> None:
    code, out, err = run("size", UP, "7x9", "--output", "14x18")
    assert (code, err) == (0, "")
    assert "input 7x9 -> output 14x18" in out
    assert "axis 1: (9 - 1) * 2 - 1 - 1 + 1 * (4 - 1) + 0 + 1 = 18" in out
    assert "legal output_padding: 0..1, 0..1" in out
    assert "input sizes that give 14x18: 7 x 9" in out


@pytest.mark.parametrize(
    "layer",
    [
        UP,
        "Conv2d(3, 8, (5, 3), stride=(3, 2), padding=(2, 0), dilation=(1, 2))",
        "Conv1d(1, 1, 4, stride=3, padding='same')",
        "ConvTranspose3d(2, 2, 3, stride=2, padding=1, output_padding=1, dilation=2)",
        "ConvTranspose1d(2, 2, 3, stride=3, padding='same')",
        "MaxPool2d(3, stride=2, padding=1, ceil_mode=True)",
        "AvgPool1d(2, stride=3, ceil_mode=True)",
    ],
)
def test_arithmetic_of_every_axis_comes_to_the_output_size(layer: str, run: Run) -> None:
    spec = ConvSpec.parse(layer)
    for size in (11, 12, 13, 14):
        figures = json.loads(run("size", layer, str(size), "--json").out)
        expected = output_size(spec, size)
        assert tuple(figures["output_size"]) == expected
        for arithmetic, outcome in zip(figures["arithmetic"], expected, strict=True):
            formula, _, shown = arithmetic.rpartition(" = ")
            value = eval(formula, {"__builtins__": {}}, {"floor": math.floor, "ceil": math.ceil})
            assert value == int(shown) == outcome
        back = json.loads(run("size", layer, "--output", "x".join(map(str, expected)), "--json").out)
        for ends, sizes in zip(back["input_sizes"], input_sizes(spec, expected), strict=True):
            assert (ends["first"], ends["last"]) == (sizes[0], sizes[-1])
            assert size in sizes


def test_size_names_the_output_padding_that_gives_a_size(run: Run) -> None:
    layer = "ConvTranspose2d(8, 8, 3, stride=2, padding=1)"
    figures = json.loads(run("size", layer, "--output", "14x13", "--json").out)
    assert figures["input_sizes"] == [None, {"first": 7, "last": 7}]
    assert figures["output_padding_that_gives_it"] == [1, 0]
    assert figures["input_sizes_then"] == [{"first": 7, "last": 7}] * 2
    assert "with output_padding=(1, 0): 7 x 7" in run("size", layer, "--output", "14x13").out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "nonsense"),
        (["--nonsense"], "--nonsense"),
        (["size"], "LAYER"),
        (["size", "Conv2d(3, 8, 3)"], "'SIZE' or '--output' must be given"),
        (["size", "Conv2d(3, 8", "7"], "must be one layer"),
        (["size", "Conv2d(3, 8, 3, stride=0)", "7"], "'stride'"),
        (["size", "__import__('os').getcwd()", "7"], "must name a convolution or pooling layer"),
        (["size", "Conv2d(3, 8, 3)", "7x7x7"], "each of the layer's 2 axes"),
        (["size", "Conv2d(3, 8, 3)", "seven"], "'SIZE' must be whole numbers"),
        (["size", "Conv2d(3, 8, 3)", "2x7"], "got 2 on axis 0 of SIZE=(2, 7)"),
        (["size", "Conv2d(3, 8, 3)", "7", "--output", "0"], "'--output' must be at least 1"),
        (["size", "Conv2d(3, 8, 3)", "1" * 5000], "'SIZE' must"),
        (["plan", "Conv2d(3, 8, 3)"], "SIZE"),
        (["plan", "Conv2d(3, 8, 3)", "2"], "'SIZE' must be large enough"),
        (["plan", "MaxPool2d(3)", "9"], "must be a conv or conv_transpose"),
        (["plan", "Conv2d(3, 8, 3)", "9", "--dtype", "int8"], "'--dtype' must be one of"),
        (["plan", "Conv2d(3, 8, 3)", "9", "--threads", "0"], "--threads"),
        (["bench"], "'LAYER|MODEL' or '--cases' must be given"),
        (["bench", "Conv2d(3, 8, 3)"], "'--size' must be given"),
        (["bench", "--readme", "README.md"], "'--readme' must stand beside --report"),
        (["bench", "Conv2d(3, 8, 3)", "--size", "9x9x9"], "each of the layer's 2 axes"),
        (["bench", "Conv2d(3, 8, 3)", "--size", "2"], "'--size' must be large enough"),
        (["bench", "Conv2d(3, 8, 3)", "--size", "10000000"], "has not the memory"),
        (["bench", "Conv2d(3, 8, 3, padding=4611686018427387904)", "--size", "9"], "has not the memory"),
        (["bench", "no.such:model", "--size", "1x3x9x9"], "ModuleNotFoundError: No module named"),
        (["bench", "os:getpid", "--size", "1x3x9x9"], "returned int"),
        (["bench", "torch.nn:Identity", "--size", "1x999999999999x999999999"], "has not the memory"),
        (["bench", "tests.cli.test_cli:narrow", "--size", "1x4x9x9"], "'MODEL' must run at '--size'"),
        (
            ["check", "tests.cli.test_cli:unimportable", "--input", "1,3"],
            "raised RuntimeError: built elsewhere",
        ),
        (["bench", "resnet", "--size", "2x2"], "got 'resnet'"),
        (["bench", "--cases", "/nonexistent/layers.csv"], "'--cases' must be a readable CSV file"),
        (
            ["bench", "Conv2d(3, 8, 3)", "--size", "9x9", "--threads", "1,x"],
            "'--threads' must be whole numbers",
        ),
        (["bench", "Conv2d(3, 8, 3)", "--size", "9x9", "--rounds", "0"], "--rounds"),
        (["bench", "Conv2d(3, 8, 3)", "--size", "9x9", "--dtype", "half"], "'--dtype' must be one of"),
        (["bench", "Conv2d(3, 8, 3)", "--size", "9x9", "--out", "/nonexistent/r.json"], "'--out' must lie"),
        (["bench", "Conv2d(3, 8, 3)", "--size", "9x9", "--out", __file__], "'--out' must be a .json file"),
        (["bench", "--report", __file__], "'--report' must be a file that outstride bench --out wrote"),
        (["bench", "Conv2d(3, 8, 3)", "--size", "9", "--filter", "x"], "'--filter' must be left out"),
        (["bench", "Conv2d(3, 8, 3)", "--size", "9x9", "--resume"], "'--resume' must be left out"),
        (["bench", "a:b", "--size", "1x3x9x9", "--batch", "2"], "'--batch' must be left out beside a model"),
        (["bench", "--cases", "x.csv", "--size", "9"], "'--size' must be left out beside '--cases'"),
        (
            ["bench", "--study", "first", "--rounds", "2"],
            "'--rounds' must be left out beside '--study first'",
        ),
        (["bench", "--report", "x.json", "--threads", "2"], "'--threads' must be left out beside '--report'"),
        (["bench", "--report", "x.json", "--json"], "'--json' must be left out beside '--report'"),
        (["bench", "Conv2d(3, 8, 3)", "--size", "9x9", "--out", "/proc/x.json"], "/proc/x.json: "),
        (["explain", "Conv2d(1, 1, 3)", "--json", "--seconds", "2"], "'--seconds' must be left out"),
        (["explain", "Conv2d(1, 1, 3)", "--out", "/proc/x.png"], "/proc/x.png: "),
        (["explain", "Conv2d(1, 1"], "'LAYER' must be one layer"),
        (["explain", "Conv3d(1, 1, 3)", "9"], "'SIZE' must be small enough"),
        (["explain", "Conv2d(1, 1, 3)", "--view", "zeros"], "'--view' must be one that this layer has"),
        (["kernels", "x.pt", "--out", "x.bmp"], "'--out' must be a .png"),
        (["check", "Conv9d(1, 1, 3)", "--input", "1"], "'MODEL' must name a convolution"),
        (
            ["check", "MaxPool2d(3, return_indices=True)", "--input", "1,1,9,9"],
            "'return_indices' must be left",
        ),
        (["demo", "--steps", "3", "--seconds", "4"], "'--seconds' must be left out beside '--steps'"),
        (["plan", "Conv2d(3, 8, 3, dtype=torch.float64)", "9"], "legal: --dtype float64"),
        (["plan", "Conv2d(3, 8, 3, algorithm='direct')", "9"], "legal: --algorithm direct"),
        (["plan", UP, "9", "--algorithm", "fast"], "'--algorithm' must be one of auto, direct: got 'fast'"),
        (["bench", UP, "--size", "9", "--algorithm", "fast"], "'--algorithm' must be one of auto, direct"),
        (["bench", "--study", "memory", "--algorithm", "direct"], "'--algorithm' must be left out beside"),
        (["plan", "Conv2d(3, 8, 3, device='cuda')", "9"], "'device' must be left out of 'LAYER'"),
        (["solve", "14", "28", "--explain", "Conv2d(1, 1, 3)", "--top", "3"], "'--top' must be left out"),
        (
            ["solve", "14", "28", "--explain", "Conv2d(1, 1, 3)", "--kind", "conv"],
            "'--kind' must be left out",
        ),
        (["tile", "Conv2d(3, 8, 3)", "1,3,10000000000000,1000000", "--plan"], "fewer than 2**60 elements"),
        (["tile", "Conv2d(1000000, 1000000, 3)", "1,1000000,9,9", "--plan"], "has not the memory"),
        (["cache", "burn"], "burn"),
        (["info", "--nonsense"], "--nonsense; see outstride info --help"),
        (["demo", "--scale", "5"], "'--scale' must be one of 2, 3, 4"),
        (["demo", "--seconds", "-1"], "--seconds"),
        (["demo", "--image", "/nonexistent/picture.png"], "'--image' must be a picture that exists"),
        (["demo", "--image", __file__], "'--image' must be a picture that Pillow reads"),
        (["demo", "--out", __file__], "'--out' must be a folder"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], message: str, run: Run) -> None:
    code, out, err = run(*arguments)
    assert code == 2
    assert out == ""
    assert re.fullmatch(r"outstride: [^\n]+\n", err)
    assert message in err
    assert len(err) < 1000


@pytest.mark.parametrize(
    "layer", [UP, "Conv2d(3, 8, 5, stride=2, padding=((1, 2), (0, 3)))", "Conv1d(4, 4, 3, groups=4)"]
)
def test_plan_prints_what_would_run(layer: str, run: Run) -> None:
    spec = ConvSpec.parse(layer)
    code, out, err = run("plan", layer, "32")
    assert (code, err) == (0, "")
    assert out.startswith(layer.partition("(")[0])
    figures = json.loads(run("plan", layer, "32", "--batch", "3", "--dtype", "bfloat16", "--json").out)
    assert (figures["dtype"], figures["input_shape"]) == ("bfloat16", [3, spec.in_channels, *[32] * spec.nd])
    if figures["declines"] is None:
        assert tuple(figures["output_size"][-spec.nd :]) == output_size(spec, 32)
        source = run("plan", layer, "32", "--source").out
        assert re.search(r"^define .*{$", source, re.MULTILINE)


@pytest.mark.parametrize(
    ("layer", "reasons"),
    [
        (UP, []),
        ("Conv2d(3, 8, 3, padding='same')", []),
        ("Conv2d(3, 8, 3, padding=1, padding_mode='circular', stride=2)", []),
        ("Conv2d(3, 8, 3, padding=((1, 2), (0, 0)))", ["one padding for both sides"]),
        ("Conv2d(3, 8, 3, padding='same', stride=(1, 2))", ["padding='same' for a stride of 1 alone"]),
        ("ConvTranspose2d(3, 8, 3, padding='same')", ["transposed layers have no padding='same'"]),
        ("ConvTranspose2d(3, 8, 3, padding_mode='reflect', padding=1)", ["no padding_mode but 'zeros'"]),
        (
            "ConvTranspose1d(3, 8, 3, padding_mode='circular', padding=((1, 0),))",
            ["both sides", "padding_mode"],
        ),
    ],
)
def test_size_and_plan_say_what_torch_refuses(layer: str, reasons: list[str], run: Run) -> None:
    import torch

    spec = ConvSpec.parse(layer)
    for verb in ("size", "plan"):
        assert run(verb, layer, "9").out.count("not in torch") == len(reasons)
        said = json.loads(run(verb, layer, "9", "--json").out)["not_in_torch"]
        assert all(reason in whole for reason, whole in zip(reasons, said, strict=True))

    def torchs_own() -> object:
        made = eval(f"torch.nn.{layer}", {"torch": torch})
        return made(torch.zeros(1, spec.in_channels or 0, *[9] * spec.nd))

    if reasons:
        with pytest.raises((ValueError, TypeError, RuntimeError)):
            torchs_own()
    else:
        torchs_own()


@pytest.mark.parametrize(
    "layer",
    [
        "MaxPool2d(3, padding='same')",
        "AvgPool2d(3, padding=((1, 0), (0, 0)))",
        "MaxPool1d(3, padding=2, dilation=2)",
        "Conv1d(3, 0, 3)",
        "ConvTranspose1d(0, 3, 3)",
        "Conv1d(1, 1, 9223372036854775808)",
    ],
)
def test_size_says_what_torch_refuses_of_layers_that_are_not_planned(layer: str, run: Run) -> None:
    assert len(json.loads(run("size", layer, "9223372036854775809", "--json").out)["not_in_torch"]) == 1


def test_plan_takes_the_threads_it_is_given(run: Run) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        figures = json.loads(run("plan", UP, "64", "--threads", "3", "--json").out)
    finally:
        torch.set_num_threads(before)
    assert figures.get("threads", 3) == 3


def test_plan_takes_the_algorithm_it_is_given(run: Run) -> None:
    for arguments, algorithm in (([], "auto"), (["--algorithm", "direct"], "direct")):
        assert json.loads(run("plan", UP, "64", "--json", *arguments).out)["algorithm"] == algorithm


def test_plan_needs_no_memory_for_what_it_plans(run: Run) -> None:
    code, out, err = run("plan", "Conv2d(1000000, 1000000, 3)", "100000")
    assert (code, err) == (0, "")
    assert "1000000" in out


def test_cache_shows_and_clears(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from outstride.engine.launch import call_cache
    from outstride.engine.runtime import cache

    call_cache.clear()
    weight = torch.ones(1, 1, 3, 3)
    conv2d(torch.ones(1, 1, 4, 4), weight)
    calls = call_cache.sizes()
    assert calls["checked calls"] == calls["packed weights"] == 1
    monkeypatch.setenv("OUTSTRIDE_CACHE_DIR", str(tmp_path / "kernels"))
    assert cache.write(cache.key("a test"), b"code")
    size = cache.size_bytes()
    assert size > 0
    assert run("cache", "path").out == f"{tmp_path / 'kernels'}\n"
    assert run("cache", "size").out == f"{size}\n"
    found = {"path": str(tmp_path / "kernels"), "entries": 1, "size_bytes": size, "cleared": False}
    shown = {**found, "calls": calls}
    assert json.loads(run("cache", "--json").out) == shown
    assert json.loads(run("cache", "clear", "--json").out) == {**shown, "cleared": True}
    nothing = dict.fromkeys(calls, 0)
    assert call_cache.sizes() == nothing
    assert "holds 0 kernels, 0 bytes" in run("cache").out
    assert "0 checked calls, 0 guarded calls" in run("cache").out
    assert json.loads(run("cache", "--json").out)["calls"] == nothing
    assert cache.entries() == []


def test_info_says_what_runs_here(run: Run) -> None:
    figures = json.loads(run("info", "--json").out)
    assert figures["versions"]["torch"]
    assert figures["cpu"]
    assert figures["engine"]["instruction_set"] in (None, *figures["engine"]["instruction_sets"])
    text = run("info").out
    for name in ("torch", "cpu", "instruction set", "openmp", "dtypes", "commit"):
        assert re.search(rf"^\s*{name}: \S", text, re.MULTILINE), name


def time_a_layer(run: Run, out: Path) -> dict[str, Any]:
    code, text, err = run(
        *("bench", "Conv1d(2, 4, 3)", "--size", "50", "--rounds", "1", "--round-ms", "1", "--patience", "0"),
        *("--out", str(out)),
    )
    assert (code, err) == (0, "")
    (row,) = json.loads(out.read_text())["rows"]
    assert row["flops"] == 2 * 2 * 4 * 3 * 48
    for name, figures in row["contenders"].items():
        assert re.search(rf"^{name} +[\d.]+ ", text, re.MULTILINE), text
        assert figures["median_ms"] > 0
        assert figures["residual"] < 1e-5
    return dict(row["contenders"])


def test_bench_times_a_layer_against_torch(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outstride.bench.contenders.installed", lambda *_: ["outstride", "torch"])
    assert list(time_a_layer(run, tmp_path / "results.json")) == ["outstride", "torch"]


@pytest.mark.slow
def test_bench_times_a_layer_against_whatever_is_installed(run: Run, tmp_path: Path) -> None:
    from outstride.bench.contenders import installed

    assert list(time_a_layer(run, tmp_path / "results.json")) == installed()


def test_bench_runs_a_table_at_several_thread_counts(run: Run) -> None:
    code, out, err = run(
        "bench", "--cases", str(ROOT / "bench" / "layers.csv"), "--filter", "xnn_enet.2",
        "--contenders", "torch", "--threads", "1", "--threads", "2", "--rounds", "1",
        "--round-ms", "1", "--patience", "0", "--no-residuals", "--json",
    )  # fmt: skip
    assert code == 0, err
    content = json.loads(out)
    assert [(row["id"], row["threads"]) for row in content["rows"]] == [("xnn_enet.2", 1), ("xnn_enet.2", 2)]
    assert [part["threads"] for part in content["summary"]] == [1, 2]


def _workers(children: Path) -> list[str]:
    """Those among a process's children that time; git, which is asked for the commit, is none."""
    found = []
    for pid in children.read_text().split():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it has ended
            continue
        if b"outstride.bench" in command:
            found.append(pid)
    return found


def test_interrupt_is_one_line_and_leaves_no_process() -> None:
    process = subprocess.Popen(
        [*COMMAND, "bench", "Conv1d(2, 4, 3)", "--size", "500", "--rounds", "100000", "--contenders",
         "torch"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.parent.exists():
        process.kill()
        pytest.skip("the processes that a process started are read from /proc")
    deadline = time.monotonic() + 60
    while not (started := _workers(children)) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "outstride: interrupted\n")
    assert started
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_output_for_a_pipe_is_plain_and_may_be_cut_short() -> None:
    environment = {**os.environ, "TERM": "xterm-256color"}
    for arguments in (["--help"], ["size", UP, "7"], ["solve", "7", "14"]):
        text = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, check=True, env=environment
        ).stdout
        assert text
        assert "\x1b" not in text
    reader, writer = os.pipe()
    os.close(reader)
    cut = subprocess.run(
        [*COMMAND, "size", UP, "7"], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert cut.stderr == ""
