"""The assertions of the one policy fail where they should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tests import tolerance

_ONE, _ZERO, _NAN = torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([float("nan")])
_NEXT = torch.nextafter(_ONE, torch.tensor([2.0]))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(lambda: tolerance.assert_same_bits(_ZERO, -_ZERO), id="bits: sign of zero"),
        pytest.param(lambda: tolerance.assert_same_bits(_ONE, _NEXT), id="bits: last bit"),
        pytest.param(lambda: tolerance.assert_same_bits(_ONE, _NAN), id="bits: place of NaN"),
        pytest.param(lambda: tolerance.assert_same_bits(_ONE, _ONE.double()), id="bits: type"),
        pytest.param(lambda: tolerance.assert_same_bits(_ONE, _ONE[None]), id="bits: shape"),
        pytest.param(lambda: tolerance.assert_same_bits(_ONE.int(), _ZERO.int()), id="bits: integers"),
        pytest.param(lambda: tolerance.assert_same_numbers(_NAN, _NAN), id="numbers: NaN on both sides"),
        pytest.param(lambda: tolerance.assert_differ(_ONE, _ONE), id="differ: equal"),
        pytest.param(lambda: tolerance.assert_equal_values(_ONE, [2.0]), id="values: another"),
        pytest.param(lambda: tolerance.assert_equal_values(_ONE, 1.0), id="values: a number for an array"),
        pytest.param(lambda: tolerance.assert_within(_NAN, _NAN, 1.0, "NaN"), id="within: NaN"),
        pytest.param(lambda: tolerance.assert_within(None, 1.0, 1.0, "none"), id="within: nothing"),
        pytest.param(lambda: tolerance.assert_within(1.5, 1.0, 0.4, "far"), id="within: beyond the bound"),
        pytest.param(
            lambda: tolerance.assert_within_roundings(_NEXT, _ONE, 1, "2 u"), id="roundings: one more"
        ),
    ],
)
def test_what_is_wrong_is_said(wrong: Callable[[], None]) -> None:
    with pytest.raises(AssertionError):
        wrong()


def test_what_is_right_is_not() -> None:
    tolerance.assert_same_bits(_NAN, -_NAN)
    tolerance.assert_same_numbers(_NEXT, _NEXT.clone())
    tolerance.assert_equal_values(-_ZERO, [0])
    tolerance.assert_within(1.5, 1.0, 0.5, "half")
    tolerance.assert_within_roundings(_NEXT, _ONE, 2, "2 u")
    assert tolerance.is_same_numbers(_ONE, _ONE.clone())
    assert not tolerance.is_same_numbers(_NAN, _NAN)
