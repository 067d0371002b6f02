"""Extreme arguments: legal ones give torch's values whatever their size, and nothing grows with them.

Where torch's own result does not fit memory, or its counters overflow, the values come from smaller cases by
reasoning: a tap that reads only padding adds nothing, and positions between two windows hold the bias.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as reference
from torch import Tensor

import outstride
from outstride import ConvSpec, functional, geometry
from outstride.engine.dispatch.function import CONV, CONV_TRANSPOSE
from outstride.engine.launch import execute
from outstride.engine.launch.call_cache import MOST_SIZES, CallCache
from outstride.engine.launch.compaction import CompactedCall
from outstride.engine.planner.arguments import kernel_arguments
from outstride.engine.planner.gaps import close_gaps
from outstride.engine.planner.gather_form import conv_axis, product_groups, transposed_axis
from outstride.engine.planner.plan import plan_for
from outstride.engine.runtime import machine
from outstride.errors import ArgumentError
from tests.tolerance import assert_integers_equal, assert_same_bits, assert_same_numbers

pytestmark = pytest.mark.timeout(60)


@dataclass(frozen=True)
class Extreme:
    """One call with an extreme argument that torch computes, too."""

    id: str
    function: str
    input: tuple[int, ...]
    weight: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)

    def results(self, functions: Any, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """The result and every gradient, on small integers."""
        torch.manual_seed(len(self.id))
        groups = self.arguments.get("groups", 1)
        channels = self.weight[1] * groups if "transpose" in self.function else self.weight[0]
        shapes = {"x": self.input, "weight": self.weight, "bias": (channels,)}
        given = {
            name: torch.randint(-3, 4, shape).to(dtype).requires_grad_() for name, shape in shapes.items()
        }
        result = getattr(functions, self.function)(*given.values(), **self.arguments)
        result.backward(torch.randint(-3, 4, result.shape).to(dtype))
        return {"result": result.detach()} | {f"grad of {n}": t.grad for n, t in given.items()}


def _case(
    name: str, function: str, input: tuple[int, ...], weight: tuple[int, ...], **arguments: Any
) -> Extreme:
    return Extreme(name, function, input, weight, arguments)


_C1, _T1 = "conv1d", "conv_transpose1d"
CASES = [
    _case("dilation beyond 32 bits, same", _C1, (2, 4, 8), (6, 4, 3), dilation=3046875451, padding="same"),
    _case("dilation, even kernel, same", _C1, (1, 2, 9), (2, 2, 4), dilation=10**9 + 7, padding="same"),
    _case("stride = padding", _C1, (1, 2, 8), (3, 2, 3), stride=10**8, padding=10**8),
    _case("stride = padding = 2**61", _C1, (1, 2, 8), (3, 2, 3), stride=2**61, padding=2**61),
    _case("one window", _C1, (2, 4, 50), (4, 2, 3), stride=2**62, groups=2),
    _case("one window, one position", "conv2d", (1, 2, 3, 3), (2, 2, 3, 3), stride=10**9),
    _case("one tap, any dilation", _C1, (1, 2, 50), (3, 2, 1), dilation=2**62),
    _case("stride and dilation share a factor", _C1, (1, 1, 9000), (2, 1, 5), stride=1000, dilation=2000,
          padding=333),
    _case("stride and dilation share none", _C1, (1, 1, 9000), (2, 1, 3), stride=1024, dilation=999,
          padding=13),
    _case("windows far apart", _C1, (2, 3, 10**6), (4, 3, 5), stride=10**5, padding=2),
    _case("2-d, one axis", "conv2d", (1, 2, 4, 4), (2, 2, 3, 3), stride=(2, 10**8), padding=(1, 10**8)),
    _case("2-d dilation, same", "conv2d", (1, 2, 4, 5), (2, 2, 3, 3), dilation=(10**8, 1), padding="same"),
    _case("3-d dilation, same", "conv3d", (1, 2, 4, 3, 4), (2, 2, 3, 3, 3), dilation=(10**8, 1, 2**40),
          padding="same"),
    _case("depthwise", _C1, (1, 8, 30), (8, 1, 3), dilation=10**7, padding=10**7, groups=8),
    _case("transposed stride", _T1, (1, 3, 4), (3, 2, 3), stride=10**6),
    _case("transposed stride, cropped", _T1, (2, 4, 4), (4, 3, 5), stride=10**6, padding=10**6 + 2, groups=2),
    _case("transposed stride, output_padding", _T1, (1, 1, 3), (1, 1, 3), stride=10**5, output_padding=99999),
    _case("transposed dilation", _T1, (1, 2, 1), (2, 2, 3), dilation=10**6),
    _case("transposed dilation, cropped", _T1, (1, 2, 4), (2, 2, 3), dilation=10**9, padding=10**9),
    _case("transposed stride and dilation", _T1, (1, 2, 6), (2, 1, 4), stride=3000, dilation=3000, padding=7),
    _case("transposed, coprime", _T1, (1, 2, 5), (2, 1, 4), stride=10**4, dilation=10**4 + 1, padding=10**4),
    _case("transposed depthwise", _T1, (1, 16, 5), (16, 1, 4), stride=2048, groups=16),
    _case("transposed 2-d, one axis", "conv_transpose2d", (1, 2, 3, 4), (2, 2, 3, 3), stride=(10**5, 2)),
    _case("transposed 2-d, both axes", "conv_transpose2d", (1, 2, 3, 3), (2, 3, 3, 2), stride=500, padding=3),
    _case("transposed 3-d", "conv_transpose3d", (1, 1, 2, 2, 2), (1, 1, 3, 2, 1), stride=(64, 128, 32),
          padding=(30, 1, 0)),
]  # fmt: skip
_every_case = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])


@_every_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_an_extreme_call_has_torchs_values_and_gradients(case: Extreme, dtype: torch.dtype) -> None:
    for (name, found), expected in zip(
        case.results(functional, dtype).items(), case.results(reference).values(), strict=True
    ):
        assert_integers_equal(found, expected.numpy(), dtype, name)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_closed_axes_keep_torchs_memory_format(layout: torch.memory_format) -> None:
    x = torch.ones(2, 4, 5, 6).to(memory_format=layout)
    made = functional.conv_transpose2d(x, torch.ones(4, 8, 3, 3), None, stride=100)
    assert made.is_contiguous(memory_format=layout)
    back = functional.conv2d(made, torch.ones(4, 8, 3, 3), None, stride=100)
    assert back.is_contiguous(memory_format=layout)
    assert_integers_equal(back, torch.full(back.shape, 8 * 9 * 4.0).numpy(), torch.float32)


def test_infinite_weights_meet_only_the_inputs_that_exist_in_a_transposed_call() -> None:
    weight = torch.tensor([1.0, float("inf"), 2.0]).view(1, 1, 3)
    x = torch.tensor([1.0, 0.0, -1.0]).view(1, 1, 3)
    found = functional.conv_transpose1d(x, weight, None, stride=10_000)
    expected = reference.conv_transpose1d(x, weight, None, stride=10_000)
    assert_same_numbers(found.isnan(), expected.isnan())
    assert_same_numbers(found.isinf(), expected.isinf())


def test_infinite_weights_of_far_taps_meet_no_padding() -> None:
    weight = torch.tensor([1.0, 2.0, float("inf")]).view(1, 1, 3)
    x = torch.ones(1, 1, 5)
    found = functional.conv1d(x, weight, None, dilation=10**6, padding="same")
    assert_same_bits(found, torch.full((1, 1, 5), 2.0))
    found = functional.conv1d(x, weight, None, dilation=10**6, padding=((2 * 10**6, 10**6),))
    expected = torch.zeros(1, 1, 10**6 + 5)
    expected[..., :5], expected[..., -5:] = float("inf"), 2.0
    assert_same_bits(found, expected)


@pytest.mark.parametrize(("function", "arguments"), [
    (_T1, {"stride": 2**40}), (_T1, {"stride": 2**40, "padding": 2**40}),
    (_T1, {"dilation": 2**41}), (_C1, {"padding": 2**45}), ("conv_transpose2d", {"stride": (2**36, 2)}),
])  # fmt: skip
def test_results_beyond_memory_are_refused_in_torchs_family(function: str, arguments: dict[str, Any]) -> None:
    nd = int(function[-2])
    x, weight = torch.ones(1, 1, *[4] * nd), torch.ones(1, 1, *[3] * nd)
    with pytest.raises((RuntimeError, MemoryError)):
        getattr(functional, function)(x, weight, None, **arguments)


@pytest.mark.parametrize("stride", [10**5, 2**40, 2**62])
def test_tables_are_bounded_by_the_taps_and_not_by_the_stride(stride: int) -> None:
    closed = close_gaps([3 * stride + 3], [4], [3], [stride], [0], [1])
    assert closed is not None
    assert closed[0] is not None
    assert (closed[0].size, closed[0].stride) == (12, 3)
    plan = outstride.plan(torch.nn.ConvTranspose1d(2, 2, 3, stride=min(stride, 2**50)), (1, 2, 4))
    assert plan.detail is not None
    made = kernel_arguments(plan_for(plan.detail.problem, machine(), 1))
    assert len(made.phase_rows) == 2 * 3
    assert f"on the ({3 * 4},) positions of the output" in str(plan)


def test_ordinary_layers_have_no_gaps() -> None:
    for large, small, kernel, stride, dilation in (
        (1_000_000, 977, 4096, 1024, 1), (112, 56, 3, 2, 1), (224, 14, 16, 16, 1), (9, 3, 1, 4, 1),
        (5000, 5000, 3, 1, 2048), (1, 1, 1, 1, 1), (160_000, 500, 1024, 320, 1),
    ):  # fmt: skip
        assert close_gaps([large], [small], [kernel], [stride], [0], [dilation]) is None


def test_an_axis_without_gaps_runs_as_it_is() -> None:
    x, w = torch.ones(1, 2, 9), torch.ones(2, 2, 3)
    assert not isinstance(execute.gather_run("conv", x, w, (1,), (0,), (7,), (1,), 1).call, CompactedCall)
    run = execute.gather_run("conv_transpose", x, w, (4096,), (0,), (32771,), (1,), 1)
    assert isinstance(run.call, CompactedCall)
    assert not run.is_resizable


def test_a_plan_keeps_the_factors_of_a_kernel_and_not_their_product() -> None:
    axes = [conv_axis(102, 3, 100, 1, 0, 1)] * 3
    (group,) = product_groups([axis.groups for axis in axes])
    assert group.taps == 10**6
    assert sum(len(along.offsets) for along in group.axes) == 300
    assert group.offsets[-1] == (99, 99, 99)
    assert next(group.kernel_places((10_000, 100, 1))) == list(range(10**6))


def test_phases_are_found_from_the_taps() -> None:
    axis = transposed_axis(4, 3 * 4096 + 16384, 16384, 4096, 1000, 1, cropped=True)
    found = {
        phase: tuple(zip(kernel, group.offsets, strict=True))
        for group in axis.groups
        for phase, kernel in zip(group.members, group.kernel, strict=True)
    }
    assert sum(map(len, found.values())) == 16384
    for phase in (0, 1, 3095, 3096, 4095):
        expected = [(k, (1000 + phase - k) // 4096) for k in range(16384) if (1000 + phase - k) % 4096 == 0]
        assert list(found[phase]) == expected


@pytest.mark.parametrize("name", ["Conv1d", "ConvTranspose1d"])
def test_ascending_lengths_leave_a_bounded_number_of_calls(name: str) -> None:
    function = (CONV if name == "Conv1d" else CONV_TRANSPOSE)[1]
    caches: list[CallCache[Any, Any]] = [
        function.checked, function.guarded, execute.CONTRACTIONS, execute.WEIGHT_GRADIENTS,
    ]  # fmt: skip
    for each in caches:
        each.clear()
    layer = getattr(outstride.nn, name)(2, 2, 3)
    for length in range(10, 10 + 3 * MOST_SIZES):
        layer(torch.ones(1, 2, length, requires_grad=True)).sum().backward()
    # The layer itself, and in its input's gradient its adjoint.
    assert [len(each) for each in caches] == [MOST_SIZES, MOST_SIZES, 2 * MOST_SIZES, MOST_SIZES]


def test_the_latest_sizes_of_each_layer_are_kept() -> None:
    cache = CallCache[tuple[str, int], int]("checked calls", most=1000)
    for size in range(MOST_SIZES + 5):
        cache.keep("a", ("a", size), size)
        cache.keep("b", ("b", 0), size)
    kept = cache.entries()
    assert kept["b", 0] == MOST_SIZES + 4
    assert ("a", 4) not in kept
    assert ("a", 5) in kept
    assert len(kept) == len(cache) == MOST_SIZES + 1
    cache.clear()
    assert cache.keep("a", ("a", 0), 1) == cache.get(("a", 0)) == 1


@pytest.mark.parametrize("stride", [10**6, 2**40, 2**62])
def test_phases_are_counted_and_not_listed(stride: int) -> None:
    spec = ConvSpec("conv_transpose", (3,), stride, dilation=2)
    phases = geometry.phases(spec)
    assert len(phases) == stride
    assert [phases[i][0].taps for i in (0, 1, 2, 4)] == [((0, 0),), (), ((1, 0),), ((2, 0),)]
    assert phases[-1][0].out_start == stride - 1
    assert geometry.receptive_field(spec, 5 * stride + 4) == (range(5, 6),)
    assert geometry.receptive_field(spec, 5 * stride + 3) == (range(0),)


def test_fields_of_kernels_beyond_memory_are_computed() -> None:
    wide = ConvSpec("conv", (2**40,), padding=2**39)
    assert geometry.receptive_field(wide, 3) == (range(3 - 2**39, 3 + 2**39),)
    assert geometry.receptive_field(wide, 3, 1000) == (range(1000),)
    with pytest.raises(ArgumentError, match="'kernel_size' must be small enough"):
        geometry.phases(wide)[0]


@pytest.mark.parametrize("stride", [10**6, 2**40])
def test_a_stride_that_check_cannot_list_is_named(stride: int) -> None:
    model = torch.nn.Sequential(torch.nn.ConvTranspose1d(1, 1, 3, stride=stride))
    assert f"a stride of {stride}" in str(outstride.check(model, (1, 1, 4)))
