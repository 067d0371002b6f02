"""Kernels that stand for torch's operators are asked once whether this torch rounds as they do."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from outstride.engine.launch.maps.normalisation import instance_norm_declines
from outstride.engine.launch.maps.pointwise import pointwise_declines
from outstride.engine.launch.maps.pooling import avg_pool_declines, max_pool_declines
from outstride.engine.launch.maps.rearrangement import rearrangement_declines
from outstride.engine.launch.steps import check as step_check
from outstride.engine.launch.steps.agreement import _found, disagreement, trial
from outstride.engine.planner.steps import Step

_ONE, _NAN = torch.tensor([1.0]), torch.tensor([float("nan")])


def test_other_bits_are_a_reason_to_decline() -> None:
    reason = disagreement("a test's kind", lambda: [(_ONE, _ONE), (_ONE, torch.nextafter(_ONE, 2 * _ONE))])
    assert reason == "this build of torch rounds a test's kind in another way"
    assert disagreement("a kind with NaN", lambda: [(_NAN, -_NAN)]) is None
    assert disagreement("a kind with zeros", lambda: [(0.0 * _ONE, -0.0 * _ONE)]) is not None
    assert disagreement("a kind with strides", lambda: [(_ONE.expand(2), _ONE.repeat(2))]) is not None


def test_it_is_asked_once() -> None:
    asked = []

    def pairs() -> list[tuple[Tensor, Tensor]]:
        asked.append(1)
        return [(_ONE, _ONE)]

    assert disagreement("a kind that agrees", pairs) is disagreement("a kind that agrees", pairs) is None
    assert len(asked) == 1


def test_modes_do_not_reach_the_numbers() -> None:
    """A compiler asks while it traces with tensors that have no numbers."""
    with FakeTensorMode():
        assert (
            disagreement("a kind under a mode", lambda: [(torch.ones(3) * 2, torch.full((3,), 2.0))]) is None
        )


def test_what_is_served_is_known_of_tensors_without_numbers() -> None:
    """Of none of them a kind was used before: each is tried in a thread, with tensors that have numbers."""
    _found.clear()
    step_check._declined.cache_clear()
    with FakeTensorMode():
        x, vector = torch.empty(1, 3, 8, 8), torch.empty(3)
        assert max_pool_declines(x, 2) is avg_pool_declines(x, 2) is None
        assert pointwise_declines((Step("prelu", (), ("channel",)),), x, (vector,)) is None
        assert instance_norm_declines(x, vector, None, 1e-5, (Step("add", (), ("tensor",)),), (x,)) is None
        assert rearrangement_declines(x) is None


def test_trials_hold_what_is_special() -> None:
    x = trial(3, 5, dtype=torch.float64)
    assert x.shape == (3, 5)
    assert x.isnan().any()
    assert x.isposinf().any()
    assert x.isneginf().any()
    assert (torch.signbit(x) & (x == 0)).any()
    assert (~torch.signbit(x) & (x == 0)).any()
