"""Code that catches what torch raises catches what this package raises in the same place."""

from __future__ import annotations

import inspect

import pytest

from outstride import errors

FAMILIES = {
    errors.ArgumentError: ValueError,
    errors.ShapeError: RuntimeError,
    errors.DTypeError: RuntimeError,
    errors.CompileError: RuntimeError,
    errors.UnsupportedError: NotImplementedError,
}


@pytest.mark.parametrize(("ours", "torchs"), FAMILIES.items(), ids=lambda c: c.__name__)
def test_an_error_is_ours_and_of_torchs_family(ours: type[Exception], torchs: type[Exception]) -> None:
    with pytest.raises(torchs) as caught:
        raise ours("a sentence")
    assert isinstance(caught.value, errors.OutstrideError)
    assert str(caught.value) == "a sentence"


def test_every_error_has_a_family() -> None:
    defined = {thing for thing in vars(errors).values() if inspect.isclass(thing)}
    assert defined - {errors.OutstrideError} == set(FAMILIES)
