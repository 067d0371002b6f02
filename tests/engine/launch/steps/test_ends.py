"""SiLU, the sigmoid and ELU of tensors that do not fill torch's vectors have torch's bits."""

from __future__ import annotations

import pytest
import torch

from outstride.engine import runtime
from outstride.engine.launch.maps.pointwise import pointwise, pointwise_declines, pointwise_run
from outstride.engine.launch.steps import ends
from outstride.engine.launch.steps.agreement import trial
from outstride.engine.launch.steps.by_torch import by_torch
from outstride.engine.launch.steps.ends import EndsRun, has_ends
from outstride.engine.planner.steps import Step
from tests.engine.launch.agreed import needs
from tests.engine.planner.chains import IN_VECTORS, chain_name
from tests.tolerance import assert_same_bits

_has_ends = pytest.mark.skipif(ends._at_once() is None, reason="torch's vectors are of another kind here")


@_has_ends
@pytest.mark.parametrize("isa", runtime.available())
@pytest.mark.parametrize("step", IN_VECTORS, ids=lambda step: chain_name((step,)))
def test_ends_have_the_bits_of_torch(step: Step, isa: str) -> None:
    with runtime.instruction_set(isa):
        needs((step,))
        for count in (1, 2, 6, 10, 15, 17, 31, 33, 48, 100, 240, 1001):
            x = trial(1, count, 3, 1, dtype=torch.float32, seed=count)
            for lying in (x, x.contiguous(memory_format=torch.channels_last)):
                assert pointwise_declines((step,), lying) is None
                assert_same_bits(pointwise((step,), lying), by_torch(lying, (step,), ()))


@_has_ends
def test_only_ends_have_a_kernel_of_their_own() -> None:
    assert isinstance(pointwise_run((Step("silu"),), torch.zeros(1, 5, 1, 1)), EndsRun)
    assert not isinstance(pointwise_run((Step("silu"),), torch.zeros(1, 64, 1, 1)), EndsRun)
    few = torch.zeros(1, 5, 1, 1)
    assert not has_ends((Step("silu"), Step("relu")), few)
    assert not has_ends((Step("relu"),), few)
    assert not has_ends((Step("silu", filled=True),), few)
    assert not has_ends((Step("silu"),), few.double())
    assert not has_ends((Step("silu"),), few[:, :0])
    assert not has_ends((Step("silu"),), torch.zeros(1, 3, 1 << 14, 1)), "torch's threads share it"


def test_without_an_exponential_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "library_function", lambda _: None)
    assert not has_ends((Step("silu"),), torch.zeros(1, 5, 1, 1))
    assert "fill no vector" in (pointwise_declines((Step("silu"),), torch.zeros(1, 7, 1, 1)) or "")
