"""`fusions`: what it says of every operator, and why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import outstride
from outstride.compilation.report import Fusions, Launch, fusions
from outstride.engine.launch.steps.check import declined
from outstride.engine.planner.steps import Step
from outstride.errors import ArgumentError
from tests.compilation.networks import NETWORKS
from tests.engine.launch.agreed import needs


@pytest.fixture(autouse=True)
def _nothing_is_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def report_of(name: str, **how: Any) -> Fusions:
    network = NETWORKS[name]
    with torch.no_grad():
        return fusions(network.build(), *network.inputs(), **how)


def test_the_report_says_what_became_of_every_operator() -> None:
    report = report_of("skips")
    first = report.launches[0]
    assert first.operators == ("conv", "batch_norm", "relu")
    assert first.layer == "down.0"
    assert first.predicted_ms is None or first.predicted_ms > 0
    assert [launch.computed_by for launch in report.launches if "cat" in launch.operators] == ["join"]
    assert str(report).splitlines()[0].startswith("Skips: ")
    assert "<table>" in report._repr_html_()


def test_the_report_as_plain_values() -> None:
    report = report_of("mobile")
    told = json.loads(json.dumps(report.to_dict()))
    assert told["operators"] == sum(len(launch["operators"]) for launch in told["launches"])
    assert told["by_torch"] == sum(launch["computed_by"] == "torch" for launch in told["launches"])
    assert told["values_bytes"] >= told["arena_bytes"] > 0
    assert told["launches"][0]["shape"] == [2, 16, 12, 16]


def test_the_report_of_a_compiled_model_is_that_of_the_model() -> None:
    network = NETWORKS["residual"]
    model = network.build()
    with torch.no_grad():
        whole = fusions(torch.compile(model, backend="outstride"), *network.inputs())
    assert whole == report_of("residual")
    assert report_of("residual", options={"fuse": False}).fused < whole.fused


def test_only_models_have_a_report() -> None:
    with pytest.raises(ArgumentError, match="'model' must be a module or a function: got int"):
        fusions(3)  # type: ignore[arg-type]  # on purpose


def test_programs_without_python_have_no_report() -> None:
    traced = torch.jit.trace(nn.Conv1d(1, 1, 1), torch.zeros(1, 1, 3))
    with pytest.raises(ArgumentError, match=r"must be Python that torch\.compile traces: got TopLevel"):
        fusions(traced, torch.zeros(1, 1, 3))


def test_a_method_has_the_layers_of_its_model() -> None:
    model = nn.Sequential(nn.Conv1d(1, 1, 1))
    with torch.no_grad():
        report = fusions(model.forward, torch.zeros(1, 1, 3))
    assert [launch.layer for launch in report.launches] == ["0"]
    assert str(report).startswith("forward: 1 operator in 1 launch, 0 of them")


class After(nn.Module):
    """A layer, and what is done to its result."""

    def __init__(self, then: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.then = nn.Conv2d(2, 4, 3, padding=1), then

    def forward(self, x: Tensor) -> Any:
        return self.then(self.layer(x))


SLOPE = torch.full((1,), 0.1)
ONES = torch.ones(3, 64)
OTHER = nn.Conv2d(4, 4, 1)
REASONS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "result": (F.relu, "its value is a result"),
    "uses": (lambda y: F.relu(y) + y, "its value has 2 uses"),
    "conv": (OTHER, "conv is next"),
    "pool": (lambda y: F.max_pool2d(y, 2), "max_pool2d is next"),
    "norm": (F.instance_norm, "instance_norm is next"),
    "join": (lambda y: torch.cat([y, y.detach() * 2], 1), "its value has 2 uses"),
    "softplus": (F.softplus, "torch has two routines for softplus"),
    "softmax": (lambda y: F.softmax(y, 1), "torch has two routines for softmax"),
    "tanh": (torch.tanh, "torch calls a library for tanh"),
    "mean": (lambda y: y.mean((2, 3)), "mean is next"),
    "linear": (lambda y: F.linear(y.flatten(1), ONES, ONES[:, 0]), "no kernel here does linear"),
    "group norm": (lambda y: F.group_norm(y, 2), "group_norm is next"),
    "slice": (lambda y: y[..., 1:] * 2, "slice is next"),
    "slope": (lambda y: F.prelu(y, SLOPE), "prelu of other sizes or types than steps"),
    "indices": (lambda y: F.max_pool2d(y, 2, return_indices=True), "max_pool2d has several results"),
}  # fmt: skip


@pytest.mark.parametrize("name", REASONS)
def test_why_a_launch_ends(name: str) -> None:
    then, reason = REASONS[name]
    torch.manual_seed(0)
    with torch.no_grad():
        report = fusions(After(then).eval(), torch.randn(1, 2, 4, 4))
    assert report.launches[0].reason == reason
    assert all(launch.reason and launch.operators for launch in report.launches)


def test_an_operator_of_torch_has_its_reason() -> None:
    (mish,) = [launch for launch in report_of("borders").launches if "mish" in launch.operators]
    assert (mish.computed_by, mish.reason) == ("torch", "torch has two routines for mish")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gelu_is_a_step_of_contiguous_tensors_where_its_bits_can_be_met(layout: torch.memory_format) -> None:
    ways = (Step("gelu"), Step("gelu_by_series"))
    met = any(declined((step,), torch.float32) is None for step in ways) and layout is torch.contiguous_format
    image = torch.randn(1, 2, 4, 4).contiguous(memory_format=layout)
    with torch.no_grad():
        report = fusions(After(F.gelu).eval(), image)
    assert report.launches[0].operators == (("conv", "gelu") if met else ("conv",))


def test_steps_are_seen_through_views_of_rows() -> None:
    """A layer's scale and residual behind a linear layer, on tokens and on an image."""
    for name in ("tokens", "stage"):
        wide, narrow = [launch for launch in report_of(name).launches if launch.layer in ("wide", "narrow")]
        assert wide.operators[0] == narrow.operators[0] == "conv"
        assert narrow.operators[1:3] == ("mul", "add")
        assert wide.shape[-1] in (48, 32)


@pytest.mark.parametrize(("width", "is_step"), [(8, True), (7, False)])
@pytest.mark.parametrize("name", ["silu", "elu", "celu", "selu"])
def test_exponentials_are_steps_where_their_elements_fill_vectors(
    name: str, width: int, is_step: bool
) -> None:
    function = getattr(F, name)
    if is_step:
        needs((Step("silu") if name == "silu" else Step("elu", (1.0, 1.0, 1.0)),))
    with torch.no_grad():
        report = fusions(After(lambda y: function(y + 1)).eval(), torch.randn(1, 2, 4, width))
    first = report.launches[0]
    called = "elu" if name == "selu" else name  # as torch's tracer has it
    assert first.operators == (("conv", "add", called) if is_step else ("conv", "add"))
    kind = "silu" if name == "silu" else "elu"
    why = "its value is a result" if is_step else f"torch computes '{kind}' of elements that fill no vector"
    assert first.reason.startswith(why)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 2.0])
def test_an_elu_of_other_scales_is_torchs(scale: float) -> None:
    """Of a scale of its input below zero, the exponential is one of numbers above it."""
    if scale > 0:
        needs((Step("elu", (0.5, 1.5, scale)),))
    with torch.no_grad():
        model, x = After(lambda y: torch.ops.aten.elu(y, 0.5, 1.5, scale)).eval(), torch.randn(1, 2, 4, 8)
        report = fusions(model, x)
        assert report.launches[0].operators == (("conv", "elu") if scale > 0 else ("conv",))


def test_what_fills_no_vector_is_a_launch_of_its_own() -> None:
    named = [launch for launch in report_of("gates").launches if {"silu", "sigmoid"} & {*launch.operators}]
    assert all(launch.is_ours for launch in named)
    alone = [launch.operators for launch in named if launch.computed_by == "pointwise"]
    assert {("silu",), ("sigmoid",)} <= {*alone}


def test_what_a_kernel_would_need_is_said() -> None:
    with torch.no_grad():
        report = fusions(After(lambda y: F.relu(y[..., 1:])).eval(), torch.randn(1, 2, 4, 4))
    (relu,) = [launch for launch in report.launches if launch.operators == ("relu",)]
    assert (relu.computed_by, relu.reason) == ("torch", "only if the elements of inputs lie without gaps")


def test_graphs_of_a_model_that_breaks_are_counted() -> None:
    def broken(y: Tensor) -> Tensor:
        return F.relu(y) if y.sum() > 1e9 else F.hardswish(y)

    with torch.no_grad():
        report = fusions(After(broken).eval(), torch.zeros(1, 2, 4, 4))
    assert [launch.graph for launch in report.launches if launch.is_ours] == ["graph 1", "graph 3"]
    assert "1: conv" in str(report)


def test_lines_are_no_longer_than_a_wide_terminal() -> None:
    launch = Launch(
        "", "conv_transpose", ("conv_transpose", *["add"] * 20), ".".join(["long"] * 20),
        (1, 1024, 1024, 1024), 1e5, "a reason " * 20,
    )  # fmt: skip
    report = Fusions("Long", (launch, launch))
    table = str(report).splitlines()[2:]
    assert max(map(len, table)) <= 140
    assert "conv_transpose + add + add + 18 more" in table[1]
    assert "...ong.long.long" in table[1]
    assert table[1].endswith("...")
    assert "a reason " * 20 in report._repr_html_()


def test_the_report_of_training_has_a_graph_for_each_way() -> None:
    network = NETWORKS["plain residual"]
    model = network.build().train()
    report = fusions(model, *network.inputs())
    assert {launch.graph for launch in report.launches} == {"graph 1", "graph 2"}
    assert all(launch.operators and launch.reason for launch in report.launches)
    assert [launch.graph for launch in report.launches if launch.computed_by == "conv_weight"] == [
        "graph 2"
    ] * 2
    assert all(parameter.grad is None for parameter in model.parameters())


def test_reports_leave_the_tracer_as_it_was() -> None:
    """It gives up a model after some compilations of one code, of which reports are none."""
    model, counted = NETWORKS["plain residual"].build(), []
    x = NETWORKS["plain residual"].inputs()[0]

    def backend(graph: Any, inputs: Any) -> Any:
        counted.append(graph)
        return outstride.compilation.outstride(graph, inputs)

    with torch.no_grad():
        first = fusions(model, x)
        for _ in range(torch._dynamo.config.cache_size_limit):
            assert fusions(model, x) == first
        torch.compile(model, backend=backend)(x)
    assert len(counted) == 1


def test_layers_in_no_graph_are_named() -> None:
    """Torch's tracer compiles no function with a break in a loop, nor torch's layers by themselves."""

    class Loops(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.unused = nn.Conv1d(4, 4, 1), nn.Linear(8, 8)
            self.inner = nn.ModuleList([nn.Conv1d(4, 4, 1)])

        def forward(self, x: Tensor) -> Tensor:
            return self.loop(self.first(x))

        def loop(self, x: Tensor) -> Tensor:
            for layer in self.inner:
                x = layer(x)
                if x.sum() > 1e9:
                    x = x + 1
            return x

    with torch.no_grad():
        report = fusions(Loops(), torch.ones(1, 4, 8))
    assert [launch.layer for launch in report.launches if launch.is_ours] == ["first"]
    assert report.untraced == tuple(report.to_dict()["untraced"]) == ("unused", "inner.0")
    assert "2 layers in no graph, run as they are if they are called: unused, inner.0" in str(report)
    assert not report_of("skips").untraced
