"""`outstride.plan`: what it says of a layer is what runs, people and programs can read it, or it declines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from copy import deepcopy
from math import prod
from typing import Any

import pytest
import torch
from torch import nn

import outstride
import outstride.nn as ours
from outstride import ConvSpec, geometry
from outstride.engine import runtime
from outstride.engine.launch import execute, gather
from outstride.engine.launch.gather import GatherCall, gather_call
from outstride.engine.planner.plan import GatherPlan
from outstride.errors import ArgumentError, OutstrideError, ShapeError
from outstride.planning import KernelPlan

Layer = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d

_MASKS = pytest.mark.skipif(
    not runtime.machine().instruction_set.masks, reason="the instruction set has no masks"
)

#: Every kind of layer, dimension and option at least once: how to make it, and the input size.
LAYERS: dict[str, tuple[Callable[[], Layer], tuple[int, ...]]] = {
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), (17,)),
    "conv1d stride dilation": (lambda: nn.Conv1d(4, 6, 3, stride=2, dilation=3, padding=2), (40,)),
    "conv2d": (lambda: nn.Conv2d(3, 8, (3, 5), padding=(1, 2)), (13, 20)),
    "conv2d groups": (lambda: nn.Conv2d(6, 12, 3, groups=3, bias=False), (9, 9)),
    "conv2d depthwise": (lambda: nn.Conv2d(64, 64, 3, padding=1, groups=64), (112, 112)),
    "conv2d pointwise": (lambda: nn.Conv2d(100, 30, 1), (7, 7)),
    "conv2d reflect": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (8, 9)),
    "conv2d replicate pairs": (
        lambda: ours.Conv2d(3, 4, 3, stride=2, padding=((1, 2), (0, 1)), padding_mode="replicate"), (9, 8),
    ),
    "conv2d same": (lambda: nn.Conv2d(3, 4, 4, padding="same"), (8, 9)),
    "conv2d same stride": (lambda: ours.Conv2d(3, 4, 4, stride=3, padding="same"), (8, 9)),
    "conv2d valid": (lambda: nn.Conv2d(3, 4, 4, padding="valid"), (8, 9)),
    "conv3d": (lambda: nn.Conv3d(3, 4, 3, padding=1), (5, 6, 7)),
    "conv3d circular": (lambda: nn.Conv3d(3, 4, 3, padding=1, padding_mode="circular"), (5, 6, 7)),
    "transpose1d": (lambda: nn.ConvTranspose1d(4, 6, 4, stride=2, padding=1), (17,)),
    "transpose1d holes": (lambda: nn.ConvTranspose1d(4, 6, 1, stride=3, output_padding=2), (9,)),
    "transpose1d dilated": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2, dilation=2, padding=1), (9,)),
    "transpose2d": (lambda: nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1), (14, 10)),
    "transpose2d groups": (lambda: nn.ConvTranspose2d(6, 9, 3, stride=2, groups=3, output_padding=1), (5, 6)),
    "transpose2d one pixel": (lambda: nn.ConvTranspose2d(100, 64, 4), (1, 1)),
    "transpose2d one output": (lambda: nn.ConvTranspose2d(56, 1, 9, stride=2, padding=4), (40, 60)),
    "transpose2d same": (lambda: ours.ConvTranspose2d(3, 4, 3, stride=2, padding="same"), (5, 6)),
    "transpose2d circular": (
        lambda: ours.ConvTranspose2d(3, 4, 3, stride=2, padding=1, padding_mode="circular"), (5, 6),
    ),
    "transpose3d": (lambda: nn.ConvTranspose3d(4, 3, 3, stride=2, padding=1, output_padding=1), (3, 4, 5)),
}  # fmt: skip

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
_each_layer = pytest.mark.parametrize("name", LAYERS)


def _made(name: str, batch: int | None) -> tuple[Layer, tuple[int, ...]]:
    """The layer and the shape of an input, unbatched without a batch."""
    make, size = LAYERS[name]
    layer = make()
    shape = (layer.in_channels, *size)
    return layer, shape if batch is None else (batch, *shape)


def _detail(plan: KernelPlan) -> GatherPlan:
    assert plan.declines is None
    assert plan.detail is not None
    return plan.detail


def _assert_readable(plan: KernelPlan, facts: tuple[str, ...]) -> None:
    """One line for the layer, then one for each fact, with its name in a column of its own."""
    head, *lines = str(plan).split("\n")
    assert head == f"{plan.layer} on {plan.input_shape} {plan.dtype}"
    assert [line[:16].strip() for line in lines] == list(facts)
    for line in lines:
        assert line == line.rstrip()
        assert line.startswith("  ")
        assert not line.startswith("   ")
        assert line[16:].strip() == line[16:] != ""
        assert len(line) < 140
        assert not re.search(r"\bnan\b|\binf\b|None|[1-9]\d*\.\d{4,}|object at|<", line)


_FACTS = (
    "result", "algorithm", "bound", "work", "phases", "register tile", "box", "strip", "tasks", "predicted",
    "kernel",
)  # fmt: skip


@_each_layer
@pytest.mark.parametrize("batch", [None, 1, 3])
def test_every_layer_has_a_plan_that_can_be_read(name: str, batch: int | None) -> None:
    layer, shape = _made(name, batch)
    plan = outstride.plan(layer, shape)
    assert (plan.layer, plan.input_shape, plan.dtype, plan.declines) == (repr(layer), shape, "float32", None)
    spec = ConvSpec.of(layer)
    size = geometry.output_size(spec, shape[-spec.nd :])
    assert plan.output_shape == (*shape[: -spec.nd - 1], layer.out_channels, *size)
    _assert_readable(plan, _FACTS)
    assert str(plan.output_shape) in str(plan)
    assert plan == outstride.plan(layer, list(shape))
    assert hash(plan) == hash(outstride.plan(layer, torch.Size(shape)))


@_each_layer
@pytest.mark.parametrize("dtype", _DTYPES, ids=str)
def test_facts_are_plain_values(name: str, dtype: torch.dtype) -> None:
    layer, shape = _made(name, 2)
    plan = outstride.plan(layer.to(dtype), shape)
    facts = plan.to_dict()
    assert json.loads(json.dumps(facts)) == facts
    detail = _detail(plan)
    assert facts["dtype"] == plan.dtype == str(dtype).removeprefix("torch.")
    assert (facts["input_shape"], facts["output_shape"]) == (list(shape), list(plan.output_shape))
    assert facts["operator"] == (
        "conv_transpose"
        if isinstance(layer, nn.modules.conv._ConvTransposeNd) and name != "transpose2d one pixel"
        else "conv"
    )
    assert facts["flops"] == plan.flops == 2 * detail.problem.terms > 0
    assert facts["instruction_set"] == runtime.machine().instruction_set.name
    assert (
        facts["lanes"] * (8 if dtype == torch.float64 else 4)
        == runtime.machine().instruction_set.vector_bytes
    )
    assert facts["threads"] == torch.get_num_threads()
    assert sum(g["phases"] for g in facts["phase_groups"]) == prod(a.out_step for a in detail.axes)
    item = dtype.itemsize
    weights = layer.weight.numel()
    moved = sum(map(prod, (detail.problem.input_size, detail.problem.output_size)))
    assert facts["bytes"] >= item * (weights + 2 * moved)


@_each_layer
def test_what_is_planned_is_what_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for batch in (None, 2):
        layer, shape = _made(name, batch)
        assert _plans_of_a_run(layer, shape, monkeypatch) == [_detail(outstride.plan(layer, shape))]


def _plans_of_a_run(
    layer: Layer, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> list[GatherPlan]:
    """The plans that the engine makes when the layer is called for the first time."""
    seen: list[GatherPlan] = []

    def watched(*args: Any) -> GatherCall:
        call = gather_call(*args)
        seen.append(call.size_class.plan)
        return call

    with monkeypatch.context() as patched:
        patched.setattr(execute, "gather_call", watched)
        execute.CONTRACTIONS.clear()
        gather.SIZE_CLASSES.clear()
        with torch.no_grad():
            result = outstride.accelerate(deepcopy(layer))(torch.zeros(shape, dtype=layer.weight.dtype))
        execute.CONTRACTIONS.clear()
    assert tuple(result.shape) == outstride.plan(layer, shape).output_shape
    return seen


@pytest.mark.parametrize("name", ["conv2d", "transpose2d"])
def test_what_is_planned_is_what_runs_in_channels_last_too(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, shape = _made(name, 1)
    layer = layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch leaves it out
    assert _plans_of_a_run(layer, shape, monkeypatch) == [_detail(outstride.plan(layer, shape))]


@_each_layer
def test_an_accelerated_layer_has_the_plan_of_its_original(name: str) -> None:
    layer, shape = _made(name, 1)
    fast = outstride.accelerate(deepcopy(layer))
    assert isinstance(fast, getattr(outstride.nn, type(layer).__name__))
    assert outstride.plan(fast, shape) == outstride.plan(layer, shape)
    assert outstride.plan(outstride.restore(fast), shape) == outstride.plan(layer, shape)


def test_planning_runs_and_allocates_nothing() -> None:
    """An image of 20 TB would fit no machine."""
    before = runtime.compilations()
    layer = nn.Conv2d(3, 8, 3).to("meta")
    plan = outstride.plan(layer, (16, 3, 1 << 18, 1 << 18))
    assert plan.flops == 2 * 16 * 8 * 3 * 9 * ((1 << 18) - 2) ** 2
    _assert_readable(plan, _FACTS)
    assert runtime.compilations() == before


@pytest.mark.parametrize("name", ["conv1d", "conv2d depthwise", "transpose2d", "transpose3d"])
def test_source_and_assembly_are_those_of_the_planned_kernel(name: str) -> None:
    layer, shape = _made(name, 1)
    plan = outstride.plan(layer, shape)
    tile = _detail(plan).tile.name
    assert re.search(rf"define (internal )?void @{tile}\(", plan.source)
    assert "define void @run(" in plan.source
    assert "llvm.fma" in plan.source
    assert f"{tile}:" in plan.assembly
    assert "run:" in plan.assembly
    assert plan.to_dict()["kernel"] in plan.source
    assert outstride.plan(layer, (2, *shape[1:])).to_dict()["kernel"] == plan.to_dict()["kernel"]


@pytest.mark.parametrize("name", runtime.available())
def test_the_plan_is_for_the_instruction_set_in_use(name: str) -> None:
    layer, shape = _made("transpose2d", 1)
    with runtime.instruction_set(name):
        plan = outstride.plan(layer, shape)
    assert plan.to_dict()["instruction_set"] == name
    assert f"({name})" in str(plan)
    assert plan.to_dict()["kernel"].endswith(f"_{name}")


@pytest.mark.parametrize("count", [1, 2])
def test_the_plan_is_for_the_threads_in_use(count: int) -> None:
    layer, shape = _made("transpose2d", 1)
    torch.set_num_threads(count)
    plan = outstride.plan(layer, shape)
    assert plan.to_dict()["threads"] == count
    assert re.search(rf"\d+ on \d+ of {count} threads", str(plan))


@pytest.mark.parametrize(
    ("name", "dataflow", "words"),
    [
        ("conv2d", "pixels", "inputs in lanes, weights broadcast"),
        ("conv2d pointwise", "channels", "weights in lanes, inputs broadcast"),
        ("transpose2d one pixel", "unpacked", "weights in lanes as they lie, inputs broadcast"),
        pytest.param(
            "conv2d depthwise", "in_place", "strip         none: the input is read where it lies",
            marks=_MASKS,
        ),
        pytest.param(
            "transpose2d one output", "rows", "inputs in lanes, weights broadcast",
        ),
    ],
)  # fmt: skip
def test_the_text_says_what_lies_in_the_lanes(name: str, dataflow: str, words: str) -> None:
    layer, shape = _made(name, 1)
    plan = outstride.plan(layer, shape)
    assert _detail(plan).tile.dataflow.name == dataflow, "another layer must stand for this dataflow"
    assert words in str(plan)


def test_shares_of_lanes_are_shares() -> None:
    for name in LAYERS:
        layer, shape = _made(name, 1)
        lost = re.search(r"([\d.]+)% of its lanes are lost", str(outstride.plan(layer, shape)))
        assert lost
        assert 0 <= float(lost[1]) < 100


def test_an_empty_batch_has_a_plan_without_work() -> None:
    layer, shape = _made("transpose2d", 0)
    plan = outstride.plan(layer, shape)
    assert (plan.flops, plan.output_shape[0], plan.to_dict()["tasks"]) == (0, 0, 0)
    _assert_readable(plan, _FACTS)


def test_a_layer_without_input_channels_has_a_plan_without_work() -> None:
    plan = outstride.plan(nn.Conv2d(0, 4, 3, device="meta"), (1, 0, 8, 8))
    assert (plan.flops, plan.output_shape) == (0, (1, 4, 6, 6))


# -- declines and refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128, torch.int32, torch.int8])
@pytest.mark.parametrize("name", ["conv2d", "transpose1d", "conv3d circular"])
def test_what_the_engine_does_not_compute_is_declined_with_a_reason(name: str, dtype: torch.dtype) -> None:
    layer, shape = _made(name, 1)
    weight, bias = layer.weight, layer.bias
    layer.weight = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
    layer.bias = None if bias is None else nn.Parameter(bias.detach().to(dtype), requires_grad=False)
    plan = outstride.plan(layer, shape)
    short = str(dtype).removeprefix("torch.")
    assert plan.declines == f"the engine computes float32, float64, bfloat16, float16, not {short}"
    assert str(plan) == f"{plan.layer} on {shape} {short}\n  declines: {plan.declines}; torch runs it"
    assert plan.detail is None
    assert plan.flops == 0
    facts = plan.to_dict()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["declines"] == plan.declines
    assert "kernel" not in facts
    for words in ("source", "assembly"):
        with pytest.raises(ArgumentError, match="'layer' must be one that the engine serves") as refusal:
            getattr(plan, words)
        assert plan.declines in str(refusal.value)


def test_a_processor_that_nothing_runs_on_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.host, "available", lambda: ())
    layer, shape = _made("conv2d", 1)
    plan = outstride.plan(layer, shape)
    assert plan.declines
    assert plan.declines == runtime.decline()
    assert plan.declines in str(plan)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(3, 4),
        nn.MaxPool2d(3),
        nn.Sequential(nn.Conv2d(3, 4, 3)),
        nn.Conv2d,
        nn.functional.conv2d,
        None,
    ],
    ids=lambda x: getattr(x, "__name__", type(x).__name__),
)
def test_other_layers_are_refused_in_a_sentence(layer: nn.Module) -> None:
    with pytest.raises(
        ArgumentError, match="'layer' must be a convolution or transposed convolution"
    ) as refusal:
        outstride.plan(layer, (1, 3, 8, 8))
    assert type(layer).__name__ in str(refusal.value)
    assert isinstance(refusal.value, ValueError)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("conv2d", (1, 4, 8, 8), "expects: got 4; legal: 3"),
        ("conv2d", (3, 8), "must be 3-d \\(unbatched\\) or 4-d \\(batched\\)"),
        ("conv2d", (1, 1, 3, 8, 8), "must be 3-d \\(unbatched\\) or 4-d \\(batched\\)"),
        ("conv2d", (), "must be 3-d \\(unbatched\\) or 4-d \\(batched\\)"),
        ("conv2d groups", (1, 6, 2, 9), "legal: input size 3 or more"),
        ("conv2d reflect", (1, 3, 1, 9), "reflect"),
        ("transpose1d", (4, 0), "at least one element on every spatial axis"),
        ("transpose2d", (1, 16, 0, 5), "at least one element on every spatial axis"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_a_sentence(
    name: str, shape: tuple[int, ...], words: str
) -> None:
    layer, _ = _made(name, 1)
    with pytest.raises(ShapeError, match=words) as refusal:
        outstride.plan(layer, shape)
    assert isinstance(refusal.value, OutstrideError)
    assert isinstance(refusal.value, RuntimeError)
    assert re.match(r"'\w+' must .*: got .*; legal: ", str(refusal.value)), refusal.value


def test_it_says_which_algorithm_was_asked_for() -> None:
    stock, shape, plan = nn.Conv2d(16, 16, 3), (1, 16, 9, 9), outstride.plan
    direct, served = (
        ours.Conv2d(16, 16, 3, algorithm="direct"),
        outstride.accelerate(stock, algorithm="direct"),
    )
    for found, name in (
        (plan(stock, shape), "auto"), (plan(stock, shape, algorithm="direct"), "direct"),
        (plan(direct, shape), "direct"), (plan(direct, shape, algorithm="auto"), "auto"),
        (plan(served, shape), "direct"), (plan(outstride.accelerate(stock), shape), "auto"),
        (plan(direct.to(torch.complex64), shape), "direct"),
    ):  # fmt: skip
        assert (found.algorithm, found.to_dict()["algorithm"]) == (name, name)
    with pytest.raises(ArgumentError) as refusal:
        plan(stock, shape, algorithm="fast")
    assert str(refusal.value) == (
        "'algorithm' must be one of its names: got algorithm='fast'; legal: 'auto', 'direct'"
    )


def test_a_tensor_is_no_shape() -> None:
    with pytest.raises(ArgumentError, match=r"got a Tensor; legal: its shape, \(1, 3, 8, 8\)$"):
        outstride.plan(torch.nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 8, 8))  # type: ignore[arg-type]  # that is the case
