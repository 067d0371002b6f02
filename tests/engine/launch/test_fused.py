"""A contraction and its steps in one kernel: the bits of the contraction and torch's operators after it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from outstride.engine import runtime
from outstride.engine.planner.steps import Step
from tests import ROOT
from tests.cases import CASES, Case
from tests.engine.launch.agreed import is_left_to_torch, needs
from tests.engine.launch.ways_out import BY_NAME, FORMATS, LAYERS, Call, Layer, in_format, numbers
from tests.engine.planner.chains import BATCH_NORM, CHAINS, RELU, RESIDUAL, STEPS, chain_name
from tests.environments import ALGORITHMS, Environment, computed_by, one_of
from tests.poison import poison
from tests.tolerance import assert_same_bits

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
#: Layers that results of the transposed operator are spread out of, which torch's operators finish.
BY_TORCH = {"spread"}
#: What is done to an input first.
STARTS = (RELU, Step("leaky_relu", (0.1,)), Step("hardswish"))


def _unless(usual: bool) -> list[pytest.MarkDecorator]:
    """The long run alone, unless it is usual: each call has a kernel of its own to compile."""
    return [] if usual else [pytest.mark.slow]


def _ways(share: int, *about: object) -> list[object]:
    """Every layer by every algorithm, of which one in so many is always played."""
    return [
        pytest.param(layer, algorithm, id=f"{layer.id}-{algorithm}", marks=_unless(usual))
        for layer in LAYERS
        for algorithm in ALGORITHMS
        for usual in [not one_of(range(share), layer.id, algorithm, *about)]
    ]


def _somewhere(*about: object) -> Environment:
    return Environment.of(one_of(runtime.available(), *about), *about)


@pytest.mark.parametrize(
    ("layer", "algorithm", "name"),
    [
        pytest.param(
            layer, algorithm, name, id=f"{layer.id}-{algorithm}-{name}",
            marks=_unless(algorithm == "direct" and name == one_of(FORMATS, layer.id)),
        )
        for layer in LAYERS
        for algorithm in ALGORITHMS
        for name in FORMATS
    ],
)  # fmt: skip
def test_every_way_out_has_the_bits_of_the_operators_one_by_one(
    layer: Layer, name: str, algorithm: str
) -> None:
    """Every chain somewhere; a batch norm of what torch computes in another way is left to it."""
    about = (layer.id, name, algorithm)
    call = Call.of(layer, one_of(CHAINS, *about), one_of(DTYPES, about), name)
    with _somewhere(*about).entered(), computed_by(algorithm), poison():
        needs(call.steps, call.x.dtype)
        plain = call.plain()
        operands = call.operands(plain)
        assert_same_bits(call(operands), call.expected(operands), chain_name(call.steps))
        strided = plain.dim() == 3 and not plain.is_contiguous()
        other = strided and any(step.kind == "batch_norm" for step in call.steps)
        assert (call.run().declined is not None) == (other or layer.id in BY_TORCH), call.run().declined


@pytest.mark.parametrize(
    "step",
    [pytest.param(s, id=chain_name((s,)), marks=_unless(not one_of(range(6), s))) for s in STEPS],
)
def test_every_step_has_the_bits_of_its_operator(step: Step) -> None:
    for name in ("4x4-phases", "depthwise"):
        about = (name, step)
        call = Call.of(BY_NAME[name], (step,), one_of(DTYPES, about), one_of(FORMATS, about))
        with _somewhere(*about).entered():
            needs((step,), call.x.dtype)
            operands = call.operands(call.plain())
            assert_same_bits(call(operands), call.expected(operands), name)
            assert call.run().declined is None


@pytest.mark.parametrize(
    ("case", "algorithm"),
    [
        pytest.param(case, name, id=f"{case.id}-{name}", marks=_unless(not one_of(range(32), case.id, name)))
        for case in CASES
        for name in ALGORITHMS
    ],
)
def test_every_case_has_the_bits_of_the_operators_one_by_one(case: Case, algorithm: str) -> None:
    about = (case.id, algorithm)
    call = Call.of_case(replace(case, algorithm=algorithm), one_of(CHAINS[:3], about), torch.float32)
    with _somewhere(*about).entered(), computed_by(algorithm), poison():
        operands = call.operands(call.plain())
        assert_same_bits(call(operands), call.expected(operands), chain_name(call.steps))


@pytest.mark.parametrize(("layer", "algorithm"), _ways(8, "before"))
def test_steps_before_a_layer_have_the_bits_of_the_operators(layer: Layer, algorithm: str) -> None:
    """They are done to what is read, where it lies and however it is packed; padding stays zero."""
    for number, name in enumerate(FORMATS):
        about = (layer.id, algorithm, name)
        before = (STARTS[number], *one_of(((), (Step("leaky_relu", (-0.3,)),), (RELU,)), about))
        steps = one_of(((), (RELU,), (BATCH_NORM, RESIDUAL)), about)
        call = replace(Call.of(layer, steps, one_of(DTYPES, about), name), before=before)
        call.x[..., ::7] = -0.0
        with _somewhere(*about).entered(), computed_by(algorithm), poison():
            operands = call.operands(call.plain())
            assert_same_bits(call(operands), call.expected(operands), chain_name((*before, *steps)))
            kernel = layer.id not in BY_TORCH or not steps
            strided = len(layer.input_shape) == 3 and BATCH_NORM in steps
            reason = call.run().declined
            assert reason is None or not kernel or strided or is_left_to_torch(reason), reason


def test_what_is_not_finite_before_a_layer_comes_out_as_from_the_operators() -> None:
    for layer, algorithm in (("3x3", "direct"), ("3x3", "short"), ("depthwise", "direct"), ("1d", "short")):
        for target in ("x", "w"):
            call = replace(Call.of(BY_NAME[layer], (RELU,)), before=(Step("hardtanh", (-1.0, None)),))
            for place, special in enumerate((float("nan"), float("inf"), float("-inf"), 3e38)):
                getattr(call, target).view(-1)[place * 20] = special
            with computed_by(algorithm):
                assert_same_bits(call(()), call.expected(()), f"{layer}, {algorithm}, {target}")


def test_a_step_that_makes_something_of_padding_is_torchs() -> None:
    for step in (Step("hardsigmoid"), Step("add", (1.0,)), Step("hardtanh", (0.5, 1.0))):
        call = replace(Call.of(BY_NAME["3x3"], (RELU,)), before=(step,))
        assert_same_bits(call(()), call.expected(()))
        assert call.run().declined == "a step before a layer must give 0 for 0, as padding is"


@pytest.mark.parametrize(("layer", "algorithm"), _ways(6, "in place"))
def test_a_result_may_take_the_place_of_an_operand(layer: Layer, algorithm: str) -> None:
    about = (layer.id, algorithm, "in place")
    call = Call.of(layer, (BATCH_NORM, RESIDUAL, RELU), torch.float32, one_of(FORMATS, about))
    with _somewhere(*about).entered(), computed_by(algorithm):
        *vectors, residual = call.operands(call.plain())
        expected = call.expected([*vectors, residual])
        assert call([*vectors, residual], residual) is residual
        assert_same_bits(residual, expected)


@pytest.mark.parametrize("name", FORMATS)
def test_a_result_goes_where_it_is_asked_to(name: str) -> None:
    for layer in ("3x3", "depthwise", "4x4-phases"):
        call = Call.of(BY_NAME[layer], (BATCH_NORM, RESIDUAL))
        operands = call.operands(call.plain())
        out = in_format(torch.full_like(operands[-1], float("nan")), name)
        assert call(operands, out) is out
        assert_same_bits(out, call.expected(operands))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("special", [float("nan"), float("inf"), float("-inf"), 3e38])
def test_what_is_not_finite_comes_out_as_from_the_operators(special: float, algorithm: str) -> None:
    """A ReLU hides -inf, and a short algorithm has other infinities: sums are looked at before the steps."""
    steps = (RELU, RESIDUAL, Step("hardtanh", (0, 6)))
    for layer in ("3x3", "4x4-phases", "1d", "depthwise"):
        for place in ("x", "w", "bias", "operand"):
            call = Call.of(BY_NAME[layer], steps)
            operands = call.operands(call.plain())
            assert call.bias is not None
            target = {"x": call.x, "w": call.w, "bias": call.bias, "operand": operands[0]}[place]
            target.view(-1)[target.numel() // 2] = special
            target.view(-1)[0] = -special
            with computed_by(algorithm):
                expected = call.expected(operands)
                assert_same_bits(call(operands), expected, f"{layer}, {place}")
                assert_same_bits(call(operands, operands[0]), expected, f"{layer}, {place}, in place")


def test_operands_that_no_kernel_takes_are_torchs() -> None:
    call = Call.of(BY_NAME["3x3"], (BATCH_NORM, RESIDUAL))
    mean, variance, weight, bias, residual = call.operands(call.plain())
    apart = in_format(mean[None, None], "apart")[0, 0]
    stretched = residual[:, :, :1]
    last = residual.contiguous(memory_format=torch.channels_last)
    for operands in (
        [apart, variance, weight, bias, residual],
        [mean, variance, weight, bias, stretched],
        [mean, variance, weight, bias, last],
        [mean, variance, weight, bias, residual.double()],
        [mean, mean.abs(), mean, mean, residual],
    ):
        assert_same_bits(call(operands), call.expected(operands))
    slopes = Call.of(BY_NAME["3x3"], (Step("prelu", (), ("channel",)),))
    assert_same_bits(slopes([torch.tensor([0.2])]), slopes.expected([torch.tensor([0.2])]))


def test_operands_come_one_for_each_that_a_step_is_given() -> None:
    call = Call.of(BY_NAME["3x3"], (BATCH_NORM, RELU))
    with pytest.raises(ValueError, match=r"'operands' must be one tensor for each .*: got 2; legal: 4"):
        call([numbers((24,), torch.float32, 1)] * 2)


def test_a_kernel_serves_all_sizes_and_all_operands() -> None:
    """Law 6: what a step is given comes with each call, and a new size compiles nothing."""
    steps = (BATCH_NORM, RESIDUAL, Step("leaky_relu", (0.17,)))
    sizes = ((13, 17), (64, 65), (7, 200))
    calls = [
        Call.of(
            replace(BY_NAME["3x3"], input_shape=(2, 8, *size), output_size=size), steps, torch.float32
        )
        for size in sizes
    ]  # fmt: skip
    for call in calls:
        call.plain()
    first = calls[0]
    operands = first.operands(first.plain())
    first(operands)
    before = runtime.compilations()
    assert first.run() is first.run()
    for call in calls:
        operands = call.operands(call.plain())
        for _ in range(2):
            assert_same_bits(call(operands), call.expected(operands))
            operands = [t.roll(1, 0) if t.dim() == 1 else t for t in operands]  # nothing of a call is kept
        operands[0].add_(1.0)
        assert_same_bits(call(operands), call.expected(operands))
    assert runtime.compilations() == before


def test_nothing_is_summed_of_nothing() -> None:
    layer = replace(BY_NAME["3x3"], input_shape=(2, 0, 13, 17), weight_shape=(24, 0, 3, 3))
    for shape in (layer, replace(BY_NAME["3x3"], input_shape=(0, 8, 13, 17))):
        call = Call.of(shape, (BATCH_NORM, RELU))
        operands = call.operands(call.plain())
        assert_same_bits(call(operands), call.expected(operands))
        assert call.run().declined is not None


@pytest.mark.slow
def test_large_results_are_stored_past_the_caches() -> None:
    """Rows go by nontemporal stores there, some made beside the output."""
    for name, size in (("depthwise-1d", 700_000), ("upsampling-1d", 90_000), ("phases-long", 300_000)):
        layer = BY_NAME[name]
        output = (size,) if layer.operator == "conv" else (size * 8 - 3,)
        shape = (*layer.input_shape[:2], size)
        call = Call.of(replace(layer, input_shape=shape, output_size=output), (RELU, RESIDUAL))
        for algorithm in ALGORITHMS:
            with computed_by(algorithm), Environment.of("avx2", name).entered():
                residual = numbers(tuple(call.plain().shape), torch.float32, 3)
                expected = call.expected([residual])
                assert_same_bits(call([residual]), expected, name)
                assert_same_bits(call([residual], residual), expected, name)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_operands_are_read_within_their_memory(algorithm: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.launch.fused_bounds", algorithm],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout[-500:]}\n{done.stderr[-2000:]}"
