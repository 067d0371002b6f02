"""What a worker takes over from whoever asked, and what it leaves as it was."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from outstride.tiling.running import TileRun
from outstride.tiling.surroundings import Surroundings
from tests.environments import threads
from tests.tiling.models_to_tile import Function, image
from tests.tiling.shifted_windows import joined, parted
from tests.tiling.test_layouts import FUNCTIONS, LAYOUTS
from tests.tolerance import assert_equal_values, assert_same_bits


def test_surroundings_are_left_as_they_were() -> None:
    before = Surroundings.now()
    other = Surroundings(1, torch.float64, torch.bfloat16, "medium")
    with other.entered():
        assert Surroundings.now() == other
    assert Surroundings.now() == before


@pytest.mark.parametrize("layout", ["in_order", "channels_last"])
@pytest.mark.parametrize(("asked", "computing"), [(2, 1), (1, 2), (3, 1)])
def test_bits_are_those_of_the_threads_that_asked(asked: int, computing: int, layout: str) -> None:
    """Whatever rule there is asks how many threads the whole has, and not how many compute a tile."""
    x = LAYOUTS[layout](3 * image(1, 6, 83, 90))
    for name, function in FUNCTIONS.items():
        model = Function(function)
        with threads(asked), torch.inference_mode():
            expected, there = model(x), Surroundings.now()
        with there.entered(computing):
            run = TileRun(model, x, 50)
            if run.program.wholes:  # made once by who asks; tasks are refused them
                continue
            got = run(None)
            assert torch.get_num_threads() == computing
        assert_same_bits(got, expected, name)


def attended(x: Tensor) -> Tensor:
    """Attention of each position to those of its window."""
    windows = parted(x.permute(0, 2, 3, 1), 7)
    made = (windows @ windows.transpose(1, 2)).softmax(-1) @ windows
    return joined(made, 7, (x.shape[0], x.shape[2], x.shape[3])).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("asked", "computing"), [(2, 1), (1, 2)])
def test_products_of_matrices_are_those_of_the_threads_that_asked(asked: int, computing: int) -> None:
    model, x = Function(attended), image(1, 24, 70, 77)
    with threads(asked), torch.inference_mode():
        expected, there = model(x), Surroundings.now()
    with there.entered(computing):
        run = TileRun(model, x, (20, 28))
        assert not run.program.wholes
        got = run(None)
    assert_same_bits(got, expected)


def test_settings_of_the_process_are_not_changed_under_a_task() -> None:
    """Tasks that need other ones wait for each other; those that need the same run side by side."""
    seen, entered, leave = list[torch.dtype](), threading.Event(), threading.Event()
    double = Surroundings.now()._replace(dtype=torch.float64)
    single = double._replace(dtype=torch.float32)
    before = torch.get_default_dtype()

    def first() -> None:
        with double.entered():
            entered.set()
            leave.wait(10)
            seen.append(torch.get_default_dtype())

    def another(there: Surroundings) -> None:
        with there.entered():
            seen.append(torch.get_default_dtype())

    running = [threading.Thread(target=first)]
    running[0].start()
    assert entered.wait(10)
    running.append(threading.Thread(target=another, args=(single,)))
    running.append(threading.Thread(target=another, args=(double,)))
    for thread in running[1:]:
        thread.start()
    running[2].join(10)
    assert seen == [torch.float64]
    leave.set()
    for thread in running:
        thread.join(10)
    assert seen == [torch.float64, torch.float64, torch.float32]
    assert torch.get_default_dtype() == before


def test_threads_of_others_stay_theirs() -> None:
    counted = list[int]()
    with Surroundings.now()._replace(threads=2).entered(1):
        other = threading.Thread(target=lambda: counted.append(Surroundings.now().threads))
        other.start()
        other.join()
        assert Surroundings.now().threads == 2
    assert_equal_values(len(counted), 1)
