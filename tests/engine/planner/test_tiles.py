"""Which register tiles a layer has: by the layer alone, never by its sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outstride.engine.planner.dataflows.channels import CHANNELS
from outstride.engine.planner.dtypes import Unit
from outstride.engine.planner.machine import Machine
from outstride.engine.planner.plan import (
    plan_for,
    tiles_for,
)
from outstride.engine.planner.problem import Problem
from tests.engine.planner.problems import CHOICES, MACHINES, SPECIAL, problems


@pytest.mark.parametrize("unit", ["width", "channel"])
def test_many_weights_of_products_are_asked_for_by_every_tile(unit: Unit) -> None:
    """By the layer's weights alone, so that another size needs no other tiles."""
    near = Problem(
        "conv", "float32", 1, 1, 128, 128, (1, 7, 7), (1, 7, 7), (1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1),
        unit, unit, short=True,
    )  # fmt: skip
    far = replace(near, channels=256)
    larger = replace(far, input_size=(1, 90, 90), output_size=(1, 90, 90))
    assert near.weight_bytes == 1 << 20
    for machine in MACHINES:
        tiles = tiles_for(near, machine)
        assert all(tile.prefetches == (tile.dataflow is CHANNELS) for tile in tiles)
        assert all(tile.prefetches for tile in tiles_for(far, machine))
        assert tiles_for(far, machine) == tiles_for(larger, machine)


@given(st.one_of(problems(), st.sampled_from(list(SPECIAL.values()))), *CHOICES[1:], st.data())
@settings(max_examples=60)
def test_the_tiles_of_a_layer_are_the_same_for_all_its_sizes(
    problem: Problem, machine: Machine, threads: int, data: st.DataObject
) -> None:
    sizes = st.tuples(st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
    other = replace(
        problem,
        batch=data.draw(st.integers(1, 99)),
        input_size=data.draw(sizes),
        output_size=data.draw(sizes),
    )
    assert tiles_for(other, machine) == tiles_for(problem, machine)
    assert plan_for(other, machine, threads).tile in tiles_for(problem, machine)
    names = [tile.name for tile in tiles_for(problem, machine)]
    assert len(set(names)) == len(names), "two tiles would be one function"
