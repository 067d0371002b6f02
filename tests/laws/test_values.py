"""Value, adjoint and derivatives: what is computed, over the table of cases."""

from __future__ import annotations

import pytest
import torch

from tests.cases import CASES, LARGE_CASES, Case, closure_cases
from tests.laws.items import NARROW, Item, played
from tests.operands import definition, draw, terms, torch_opinion
from tests.tolerance import assert_close_to_reference

_closure_case = played(torch.float64, cases=closure_cases(), algorithms=("direct",), spread=True)


@played(torch.float32, torch.float64, slow=NARROW, spread=True)
def test_law1_value(item: Item) -> None:
    """Laws of their own say the rest: narrow dtypes round what float32 gives, every set gives its bits."""
    item.obeys("value")


@played(torch.float32, *NARROW, slow=(torch.float64,), spread=True)
def test_law1_small_integers_are_exact(item: Item) -> None:
    item.obeys("integers")


@pytest.mark.parametrize("case", CASES, ids=[c.id for c in CASES])
def test_law1_the_definition_is_what_torch_means(case: Case) -> None:
    """A second opinion, so that the judge of law 1 is judged too: the loops against float64 torch."""
    truth, magnitude = definition(case, "reals", False), definition(case, "reals", True)
    for name, result in torch_opinion(case, draw(case, "reals")).items():
        assert_close_to_reference(
            result, truth[name], magnitude[name], terms(case, name), torch.float64, name
        )


@played(torch.float32, slow=(torch.float64, *NARROW), cases=LARGE_CASES)
def test_law1_value_of_larger_layers(item: Item) -> None:
    item.obeys("value_by_torch")


@played(torch.float32, torch.float64, spread=True)
def test_law2_adjoint(item: Item) -> None:
    item.obeys("adjoint")


@_closure_case
def test_law3_derivatives_along_a_drawn_direction(item: Item) -> None:
    item.obeys("closure_along_one_direction")


@pytest.mark.slow
@_closure_case
def test_law3_derivatives_of_every_kind(item: Item) -> None:
    item.obeys("closure")


@played(torch.float32, algorithms=("short",))
def test_law3_gradients_of_gradients_are_contractions(item: Item) -> None:
    item.obeys("second_order")


@_closure_case
def test_law3_vmap_is_the_loop(item: Item) -> None:
    item.obeys("vmap")


@played(torch.float32, algorithms=("short",), short_share=6)
def test_law3_vmap_is_the_loop_by_short_algorithms(item: Item) -> None:
    item.obeys("vmap")
