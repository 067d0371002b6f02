"""Kernels that stand for torch's operators are asked once whether this torch rounds as they do."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from outstride.engine.launch.agreement import disagreement, trial

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


def test_trials_hold_what_is_special() -> None:
    x = trial(3, 5, dtype=torch.float64)
    assert x.shape == (3, 5)
    assert x.isnan().any()
    assert x.isposinf().any()
    assert x.isneginf().any()
    assert (torch.signbit(x) & (x == 0)).any()
    assert (~torch.signbit(x) & (x == 0)).any()
