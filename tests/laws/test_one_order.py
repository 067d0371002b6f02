"""One order: what may not be seen in the bits of a result, over the table of cases."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from outstride.engine import runtime
from tests.cases import LARGE_CASES
from tests.laws.items import NARROW, Item, played


@played(torch.float32, spread=True)
def test_law4_threads_do_not_matter(item: Item) -> None:
    item.obeys("threads")


@played(torch.float32, cases=LARGE_CASES)
def test_law4_threads_do_not_matter_where_they_share_work(item: Item) -> None:
    item.obeys("threads")


@played(torch.float32, spread=True, short_share=6)
def test_law4_layout_does_not_matter(item: Item) -> None:
    item.obeys("quarter_of_the_layouts")


@pytest.mark.slow
@played(torch.float32, *NARROW)
def test_law4_no_layout_matters(item: Item) -> None:
    item.obeys("layouts")


@played(torch.float32, spread=True)
def test_law4_batch_does_not_matter(item: Item) -> None:
    item.obeys("batch")


@played(torch.float32, spread=True)
def test_law4_the_order_is_the_one_written_down(item: Item) -> None:
    item.obeys("order")


@played(*NARROW, spread=True)
def test_law4_narrow_dtypes_round_once(item: Item) -> None:
    item.obeys("rounding")


@played(torch.float32, spread=True)
def test_law4_a_tile_is_the_whole(item: Item) -> None:
    item.obeys("tile")


@played(torch.float32, slow=(torch.float64, *NARROW), compares_sets=True, short_share=6)
def test_law4_instruction_set_does_not_matter(item: Item) -> None:
    """Narrow dtypes round what float32 gives, each case under a set of its own."""
    item.obeys("instruction_sets")


@played(torch.float32, *NARROW, slow=(torch.float64,), spread=True)
def test_law4_nontemporal_stores_do_not_matter(item: Item) -> None:
    item.obeys("stores")


def test_law4_the_instruction_set_can_be_chosen_from_outside() -> None:
    program = "from outstride.engine import runtime; print(runtime.machine().instruction_set.name)"
    for name in runtime.available():
        environment = {**os.environ, "OUTSTRIDE_ISA": name}
        command = [sys.executable, "-c", program]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=120, check=True
        )
        assert done.stdout.strip() == name
