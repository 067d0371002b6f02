"""Problems of other sizes are problems made anew: equal, and with nothing of the size before."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from outstride.engine.planner.problem import Problem
from tests.engine.planner.problems import SPECIAL


@pytest.mark.parametrize("problem", SPECIAL.values(), ids=SPECIAL)
def test_another_size_is_what_replacing_gives(problem: Problem) -> None:
    assert problem.terms > 0
    other = problem.of_size((1, 5, 7), (1, 11, 13))
    made_anew = replace(problem, input_size=(1, 5, 7), output_size=(1, 11, 13))
    assert other == made_anew
    assert hash(other) == hash(made_anew)
    assert set(vars(other)) == {field.name for field in fields(Problem)}
    assert other.terms == made_anew.terms != problem.terms
