"""Steps have the bits of torch's own operators, of ordinary and of special numbers."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from outstride.engine import runtime
from outstride.engine.launch.maps.pointwise import pointwise
from outstride.engine.launch.steps.by_torch import by_torch
from outstride.engine.launch.steps.check import declined, run_alone, steps_kernel
from outstride.engine.planner.steps import Step
from tests.engine.launch.agreed import is_left_to_torch, needs
from tests.engine.planner.chains import CHAINS, CONTIGUOUS, IN_VECTORS, RELU, STEPS, chain_name, operands_for
from tests.environments import one_of
from tests.tolerance import assert_same_bits

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _set_for(*about: object) -> str:
    return one_of(runtime.available(), *about)


def _numbers(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Numbers of every exponent that the type has, and all special ones."""
    generator = torch.Generator().manual_seed(seed)
    info = torch.finfo(dtype)
    exponents = torch.randint(-12, 13, shape, generator=generator).double()
    numbers = torch.randn(shape, generator=generator, dtype=torch.float64) * 2.0**exponents
    special = torch.tensor(
        [0.0, -0.0, info.tiny, -info.tiny / 2, info.max, -info.max, float("inf"), float("-inf"), float("nan"),
         3.0, -3.0, 6.0, 1.0],
        dtype=torch.float64,
    )  # fmt: skip
    flat = numbers.flatten()
    places = torch.randperm(flat.numel(), generator=generator)[: flat.numel() // 4]
    flat[places] = special[torch.arange(places.numel()) % len(special)]
    return flat.view(shape).to(dtype)


def _played() -> list[object]:
    """Every chain in every type, of which one is always played: each is a kernel to compile."""
    return [
        pytest.param(
            chain, dtype, id=f"{chain_name(chain)}-{dtype}",
            marks=[] if dtype == one_of(DTYPES, chain_name(chain)) else [pytest.mark.slow],
        )
        for chain in [*((step,) for step in STEPS), *CHAINS]
        for dtype in DTYPES
    ]  # fmt: skip


@pytest.mark.parametrize(("chain", "dtype"), _played())
def test_steps_have_torchs_bits(chain: tuple[Step, ...], dtype: torch.dtype) -> None:
    with runtime.instruction_set(_set_for(chain_name(chain), dtype)):
        needs(chain, dtype)
        code = steps_kernel(chain, dtype)
        for shape in ((3, 5, 9, 13), (1, 21, 4, 4), (2, 4, 131), (1, 3, 2, 5, 7)):
            x = _numbers(shape, dtype, 1)
            formats = (torch.contiguous_format, torch.channels_last, torch.channels_last_3d)
            for memory_format in formats[:1] if len(shape) == 3 else (formats[0], formats[len(shape) - 3]):
                given = x.contiguous(memory_format=memory_format)
                operands = [
                    t.contiguous(memory_format=memory_format) if t.dim() > 1 else t
                    for t in operands_for(chain, given, _numbers)
                ]
                expected = by_torch(given, chain, operands)
                assert_same_bits(run_alone(code, chain, given, operands), expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_rounding_of_a_batch_norm_is_torchs(dtype: torch.dtype) -> None:
    """Near a zero of it, where what the types of 16 bits round away elsewhere is all that is left."""
    step, channels, length = STEPS[0], 257, 37
    needs((step,), dtype)
    generator = torch.Generator().manual_seed(3)
    mean, variance, weight, bias = (
        (torch.randn(channels, generator=generator) * size).to(dtype) for size in (100.0, 1e-3, 100.0, 10.0)
    )
    variance = variance.abs()
    zero = mean.double() - bias.double() / weight.double() * (variance.double() + 1e-5).sqrt()
    x = (zero[:, None] * (1 + torch.arange(length) * 2.0**-13)).to(dtype)[None].contiguous()
    operands = (mean, variance, weight, bias)
    made = run_alone(steps_kernel((step,), dtype), (step,), x, operands)
    assert_same_bits(made, by_torch(x, (step,), operands))


def test_this_torch_computes_every_step_as_written() -> None:
    """A torch that computes one in another way is served by its own operators: then this test says so.

    On Arm torch's vectors make +0 of -0 where they cut at 0, and what is left at their ends keeps it; there
    and in the oldest torch batch norms of float16 are rounded in another way.
    """
    other = {RELU, Step("hardtanh", (0, 6))}
    for dtype in DTYPES:
        reasons = {step: reason for step in STEPS if (reason := declined((step,), dtype))}
        left = {step for step, reason in reasons.items() if is_left_to_torch(reason)}
        norms = {step for step in STEPS if step.kind == "batch_norm" and dtype is torch.float16}
        assert left <= other | norms
        assert reasons.keys() == left, reasons


@pytest.mark.parametrize("step", IN_VECTORS, ids=lambda step: chain_name((step,)))
@pytest.mark.parametrize("instruction_set", runtime.available())
def test_what_torch_computes_in_vectors(step: Step, instruction_set: str) -> None:
    """Over all exponents, where elements fill vectors; other numbers of elements and types are declined."""
    with runtime.instruction_set(instruction_set):
        needs((step,))
        code = steps_kernel((step,), torch.float32)
        for seed, shape in enumerate(((2, 3, 160), (1, 32, 16, 22), (1, 8, 4, 4, 14))):
            x = _numbers(shape, torch.float32, seed)
            assert_same_bits(run_alone(code, (step,), x, ()), by_torch(x, (step,), ()))
        assert declined((step,), torch.float32, 1 << 20) is None
    assert "fill no vector" in (declined((step,), torch.float32, (1 << 20) + 16) or "")
    for dtype in DTYPES[1:]:
        assert "a routine of its own" in (declined((step,), dtype) or "")


def _compared(step: Step, patterns: torch.Tensor) -> None:
    """A step without operands on float32 of these bits."""
    needs((step,))
    x = patterns.to(torch.int32).view(torch.float32).view(1, 1, -1)
    made = run_alone(steps_kernel((step,), torch.float32), (step,), x, ())
    assert_same_bits(made, by_torch(x, (step,), ()))


@pytest.mark.parametrize("step", IN_VECTORS, ids=lambda step: chain_name((step,)))
def test_numbers_of_all_bits_in_vectors(step: Step) -> None:
    count = 2**32 // 9973 // 32 * 32
    with runtime.instruction_set(_set_for("bits", chain_name((step,)))):
        _compared(step, torch.arange(count) * 9973 - 2**31)


@pytest.mark.slow
def test_an_elu_of_every_number_below_zero() -> None:
    """SLEEF's sums are taken in a shorter way, which is shown to be the same by trying all."""
    part = 1 << 23
    for first in range(-(2**31), 0, part):
        _compared(Step("elu", (1.0, 1.0, 1.0)), torch.arange(first, first + part))


@pytest.mark.parametrize("step", IN_VECTORS, ids=lambda step: chain_name((step,)))
def test_steps_of_vectors_alone_do_not_ask_how_many(step: Step) -> None:
    """As in a part of a whole: torch's vectors, of elements that fill none, too."""
    needs((step,))
    x = _numbers((1, 3, 53), torch.float32, 4)
    row = torch.cat([x.flatten(), x.new_zeros(-x.numel() % 32)]).view(1, 1, -1)
    expected = by_torch(row, (step,), ()).flatten()[: x.numel()].view(x.shape)
    filled = replace(step, filled=True)
    assert declined((filled,), torch.float32, x.numel()) is None
    assert_same_bits(by_torch(x, (filled,), ()), expected)
    assert_same_bits(pointwise((filled,), x), expected)
    assert "a routine of its own" in (declined((filled,), torch.float64, x.numel()) or "")


_GELUS = """
import torch
from outstride.engine import runtime
from outstride.engine.launch.steps.check import declined, run_alone, steps_kernel
from outstride.engine.planner.steps import Step

patterns = torch.arange(-(2**31), 2**31, 9973).to(torch.int32).view(torch.float32)
for name in runtime.available():
    with runtime.instruction_set(name):
        for kind in ("gelu", "gelu_by_series"):
            if declined((Step(kind),), torch.float32, 100) is None:
                code = steps_kernel((Step(kind),), torch.float32)
                for x in (patterns.view(1, 1, -1), *(patterns[n : 9 * n].view(2, 4, n) for n in (1, 15, 49))):
                    made = run_alone(code, (Step(kind),), x, ()).contiguous()
                    expected = torch.nn.functional.gelu(x)
                    same = made.view(torch.int32) == expected.view(torch.int32)
                    assert (same | made.isnan() & expected.isnan()).all()
                print(name, kind)
"""


@pytest.mark.parametrize("onednn", ["", "AVX2"])
def test_gelu_of_contiguous_tensors(onednn: str) -> None:
    """Half a million patterns of bits, evenly drawn from all, as oneDNN computes them with each set."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": onednn} if onednn else dict(os.environ)
    command = [sys.executable, "-c", _GELUS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=True)
    found = done.stdout.split("\n")
    if "avx512" in runtime.available():  # there one of them is met, and by AVX-512's own way by no other set
        assert ("avx512 gelu" in found) is (onednn == "")
        assert ("avx2 gelu_by_series" in found) is (onednn == "AVX2")


def test_other_gelus_are_declined() -> None:
    for step in CONTIGUOUS:
        assert "of one element" in (declined((step,), torch.float32, 1) or "")
        for dtype in DTYPES[1:]:
            assert "a routine of its own" in (declined((step,), dtype) or "")
        with torch.backends.mkldnn.flags(enabled=False):
            assert "switched off" in (declined((step,), torch.float32, 100) or "")
    for name in set(runtime.available()) - {"avx512"}:
        with runtime.instruction_set(name):
            assert "with AVX-512" in (declined(CONTIGUOUS[:1], torch.float32, 100) or "")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_shares_of_threads_fill_vectors_or_are_declined(threads: int) -> None:
    """Torch's threads take shares of a tensor, whose last elements may fill no vector."""
    torch.set_num_threads(threads)
    served = 0
    for count in (32, 1 << 15, 3 << 14, (1 << 17) + 32, 96 * 1024, 5 << 15):
        x = torch.linspace(-90.0, 90.0, count).view(1, 1, -1)
        if declined((Step("silu"),), torch.float32, count) is None:
            served += 1
            code = steps_kernel((Step("silu"),), torch.float32)
            assert_same_bits(run_alone(code, (Step("silu"),), x, ()), torch.nn.functional.silu(x))
    assert served >= 3


def test_a_step_that_torch_computes_in_another_way_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step("leaky_relu", (0.123,))
    altered = torch.nn.functional.leaky_relu
    monkeypatch.setattr(torch.nn.functional, "leaky_relu", lambda x, slope: altered(x, slope * (1 + 2e-7)))
    for dtype in (torch.float32, torch.bfloat16):
        assert "'leaky_relu' of torch.float32 with other bits" in (declined((step,), dtype) or "")
