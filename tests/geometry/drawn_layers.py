"""Layers drawn for the tests of geometry, and sizes that they take."""

from __future__ import annotations

from hypothesis import strategies as st

from outstride import geometry
from outstride.errors import ShapeError
from outstride.layer.arguments import Pairs
from outstride.layer.spec import ConvSpec
from tests.spec_strategies import conv_specs, pool_specs

parse = ConvSpec.parse


specs = st.one_of(conv_specs(), pool_specs())


def draw_sizes(data: st.DataObject, spec: ConvSpec, least: int = 1, most: int = 9) -> tuple[int, ...]:
    return tuple(data.draw(st.integers(least, most)) for _ in range(spec.nd))


def pads_of(spec: ConvSpec) -> Pairs:
    assert spec.padding != "same"
    return spec.padding


def accepted(spec: ConvSpec, size: tuple[int, ...]) -> tuple[int, ...] | None:
    """The output size, or None where the input is refused."""
    try:
        return geometry.output_size(spec, size)
    except ShapeError:
        return None
