"""`torch.compile(model, backend="outstride")` as users meet it: options, sizes, breaks, threads, tools."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import outstride
from tests.compilation.networks import NETWORKS
from tests.tolerance import assert_same_bits


@pytest.fixture(autouse=True)
def _nothing_is_compiled() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(8, 2, 4, 2, 1)).eval()


def test_it_is_found_without_an_import() -> None:
    program = (
        "import torch\n"
        "model = torch.nn.Conv1d(2, 3, 3)\n"
        "compiled = torch.compile(model, backend='outstride')\n"
        "print(tuple(compiled(torch.zeros(1, 2, 9)).shape))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.stdout == "(1, 3, 7)\n", run.stderr


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"mode": "fastest"}, "'mode' must be one of 'default', 'reduce-overhead'"),
        ({"options": {"speed": 11}}, "'options' must be of 'algorithm', 'frozen', 'fuse': got 'speed'"),
        ({"options": {"fuse": "no"}}, "'options' must have True or False for 'fuse': got 'no'"),
        (
            {"options": {"algorithm": "slow"}},
            "'algorithm' must be one of its names: got algorithm='slow'; legal: 'auto', 'direct'",
        ),
    ],
)
def test_unknown_options_are_refused_in_one_sentence(how: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        torch.compile(small(), backend="outstride", **how)(torch.zeros(1, 3, 8, 8))


def test_known_modes_are_taken() -> None:
    model, x = small(), torch.randn(1, 3, 8, 8)
    fast = torch.compile(model, backend="outstride", mode="max-autotune")
    assert_same_bits(fast(x).detach(), outstride.accelerate(model)(x).detach())


def test_a_frozen_model_is_promised_to_stay() -> None:
    model, x = small(), torch.randn(1, 3, 8, 8)
    fast = torch.compile(model, backend="outstride", options={"frozen": True})
    with torch.no_grad():
        assert_same_bits(fast(x), outstride.accelerate(model)(x))
        assert_same_bits(fast(x), outstride.accelerate(model)(x))
    outstride.restore(model)


@pytest.mark.parametrize("accelerated", [False, True])
def test_bad_input_is_refused_as_without_the_backend(accelerated: bool) -> None:
    model = outstride.accelerate(small()) if accelerated else small()
    x = torch.zeros(1, 4, 8, 8)
    with pytest.raises(RuntimeError) as eager:
        model(x)
    with pytest.raises(RuntimeError) as traced:
        torch.compile(model, backend="outstride")(x)
    said, words = str(traced.value), str(eager.value).splitlines()[0]
    assert words in said or words in str(traced.value.__cause__), said


def test_every_size_by_one_compilation() -> None:
    model = NETWORKS["skips"].build()
    counted = []

    def backend(graph: Any, inputs: Any) -> Any:
        counted.append(graph)
        return outstride.compilation.outstride(graph, inputs)

    fast, served = torch.compile(model, backend=backend, dynamic=True), outstride.accelerate(model)
    with torch.no_grad():
        fast(torch.randn(1, 3, 16, 20))
        once = len(counted)  # the tracer may begin anew
        for height, width in ((18, 20), (16, 24), (30, 22), (16, 20)):
            x = torch.randn(1, 3, height, width)
            assert_same_bits(fast(x), served(x))
    assert len(counted) == once


def test_graph_breaks_and_control_flow() -> None:
    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.first(x))
            if y.sum() > 0:
                return F.relu(self.second(y)) + y
            made: Tensor = self.second(-y)
            return made

    torch.manual_seed(0)
    model = Breaks().eval()
    fast, served = torch.compile(model, backend="outstride"), outstride.accelerate(model)
    with torch.no_grad():
        for x in (torch.randn(1, 3, 8, 8), torch.full((1, 3, 8, 8), -1e9)):
            assert_same_bits(fast(x), served(x))


def test_parametrised_layers() -> None:
    torch.manual_seed(0)
    layer = parametrizations.weight_norm(nn.Conv1d(4, 6, 5, padding=2))
    model = nn.Sequential(layer, nn.LeakyReLU(0.1)).eval()
    x = torch.randn(2, 4, 17)
    with torch.no_grad():
        assert_same_bits(torch.compile(model, backend="outstride")(x), outstride.accelerate(model)(x))


def test_autocast() -> None:
    model, x = small(), torch.randn(1, 3, 8, 8)
    fast, served = torch.compile(model, backend="outstride"), outstride.accelerate(model)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert_same_bits(fast(x), served(x))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types(dtype: torch.dtype) -> None:
    model = NETWORKS["residual"].build().to(dtype)
    x = NETWORKS["residual"].inputs()[0].to(dtype)
    fast, served = torch.compile(model, backend="outstride"), outstride.accelerate(model)
    with torch.no_grad():
        for _ in range(2):
            assert_same_bits(fast(x), served(x))


def test_a_model_that_is_accelerated_already() -> None:
    model, x = small(), torch.randn(1, 3, 8, 8)
    served = outstride.accelerate(model, algorithm="direct")
    with torch.no_grad():
        assert_same_bits(torch.compile(served, backend="outstride")(x), served(x))


def test_several_threads_at_once() -> None:
    """Each call has an arena of its own."""
    network = NETWORKS["skips"]
    model = network.build()
    fast, served = torch.compile(model, backend="outstride"), outstride.accelerate(model)
    inputs = [network.inputs(seed) for seed in range(4)]
    with torch.no_grad():
        expected = [served(*x) for x in inputs]
        fast(*inputs[0])

        def many(number: int) -> list[Tensor]:
            with torch.no_grad():
                return [fast(*inputs[number]) for _ in range(20)]

        with ThreadPoolExecutor(4) as pool:
            for number, found in enumerate(pool.map(many, range(4))):
                for result in found:
                    assert_same_bits(result, expected[number])


def test_results_of_zero_batches() -> None:
    model = small()
    fast = torch.compile(model, backend="outstride")
    with torch.no_grad():
        assert fast(torch.zeros(0, 3, 8, 8)).shape == (0, 2, 16, 16)


def test_branches_of_a_condition_are_served() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.first(x))
            made: Tensor = torch.cond(y.sum() > 0, lambda y: F.relu(self.second(y)) + y, torch.neg, (y,))
            return made + 1

    torch.manual_seed(0)
    model = Branches().eval()
    fast, served = torch.compile(model, backend="outstride"), outstride.accelerate(model)

    def chosen(x: Tensor) -> Tensor:
        """By Python: not every torch follows an accelerated layer in a branch of its own."""
        y = F.relu(served.first(x))
        return (F.relu(served.second(y)) + y if y.sum() > 0 else -y) + 1

    with torch.no_grad():
        for x in (torch.randn(1, 4, 8, 8), torch.full((1, 4, 8, 8), -1e9), torch.randn(1, 4, 8, 8)):
            assert_same_bits(fast(x), chosen(x))


def test_parts_that_are_computed_anew_for_their_derivative() -> None:
    """Among them a norm, whose statistics both computations write."""

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Sequential(
                nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3)
            )

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = checkpoint(self.part, x, use_reentrant=False)
            return made

    torch.manual_seed(0)
    model = Checkpointed()
    served = outstride.accelerate(copy.deepcopy(model))
    fast = torch.compile(model, backend="outstride")
    for seed in range(3):
        gradients = list[Any]()
        for run in (fast, served):
            x = torch.ones(2, 4, 8, 8).cumsum(3).requires_grad_()
            torch.manual_seed(seed)
            run(x).square().sum().backward()
            gradients.append(x.grad)
        assert_same_bits(gradients[0], gradients[1])
    for a, b in zip(model.parameters(), served.parameters(), strict=True):
        assert_same_bits(a.grad, b.grad)  # type: ignore[arg-type]  # they have one


def test_a_call_that_raises_leaves_its_memory_to_the_next() -> None:
    class Picks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor, which: Tensor) -> Tensor:
            y = F.relu(self.layer(x)).index_select(1, which)
            return F.relu(self.layer(y))

    torch.manual_seed(0)
    model, x, which = Picks().eval(), torch.randn(1, 4, 8, 8), torch.arange(4)
    fast, served = torch.compile(model, backend="outstride"), outstride.accelerate(model)
    with torch.no_grad():
        for _ in range(3):
            assert_same_bits(fast(x, which), served(x, which))
            with pytest.raises((IndexError, RuntimeError)):
                fast(x, which + 1)
