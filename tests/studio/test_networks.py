"""A model on the page: what a position reads is what moves it; layers have their own names and figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from outstride import plan
from outstride.errors import ArgumentError
from outstride.studio.answers import ANSWERS
from outstride.studio.networks import Network


class Small(nn.Module):
    """A strided convolution, a branch around one, and the way back up."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.same = nn.Conv2d(4, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.down(x)))
        up: Tensor = self.up(x + self.same(x))
        return up


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(3)
    return Network("small", Small(), (1, 3, 16, 16))


def nodes(network: Network) -> dict[str, dict[str, Any]]:
    return {node["layer"] or node["kind"]: node for node in network.described({})["nodes"]}


def test_layers_have_their_names_shapes_and_figures(network: Network) -> None:
    found = nodes(network)
    assert found["down"]["shape"] == [1, 4, 8, 8]
    assert found["up"]["family"] == "transposed"
    assert dict(found["same"]["facts"])["multiply-adds"] == f"{4 * 4 * 22 * 22:,}"
    assert dict(found["down"]["facts"])["axis 0"].startswith("stride 2, reads 3")
    assert found["add"]["sources"] == [found["relu"]["index"], found["same"]["index"]]
    described = network.described({})
    assert [len(chain) for chain in described["chains"]] == [1, 3, 1, 1, 1]
    assert dict(described["summary"])["output"] == "1x2x16x16"


def test_a_served_layer_has_the_time_that_its_plan_predicts(network: Network) -> None:
    found, served = nodes(network), plan(network.model.get_submodule("down"), (1, 3, 16, 16))
    said = dict(found["down"]["facts"]).get("predicted", "")
    ms = served.predicted_ms
    assert said.partition(" on ")[0] == ("" if ms is None else f"{ms:.3g} ms")
    assert "predicted" not in dict(found["norm"]["facts"])


@pytest.mark.parametrize("at", [(0, 0), (7, 8), (15, 3)])
def test_what_lights_up_is_what_moves_the_position(network: Network, at: tuple[int, int]) -> None:
    last = nodes(network)["up"]["index"]
    boxes = network.field({"node": last, "at": list(at)})["boxes"]
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    network.model(x)[0, :, at[0], at[1]].sum().backward()
    assert x.grad is not None
    rows, columns = x.grad[0].abs().sum(0).nonzero().T
    read = [[int(rows.min()), int(rows.max()) + 1], [int(columns.min()), int(columns.max()) + 1]]
    assert boxes["0"] == read


def test_cells_of_short_algorithms_do_not_widen_a_field() -> None:
    wide = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1))
    network = Network("wide", wide, (1, 64, 20, 20))
    last = network.described({})["nodes"][-1]["index"]
    assert network.field({"node": last, "at": [9, 9]})["boxes"]["0"] == [[7, 12], [7, 12]]


def test_sizes_are_judged(network: Network) -> None:
    assert network.fit({"size": "16"})["said"] == ["height 16: taken as it is", "width 16: taken as it is"]
    assert network.fit({"size": "17x16"})["said"][0] == "height 17: pad 1 at the high side or crop 1"
    with pytest.raises(ArgumentError, match="legal"):
        network.fit({})


@pytest.mark.parametrize(
    "question",
    [
        {}, {"node": "x"}, {"node": 10**6, "at": [0, 0]}, {"node": 0, "at": [0]}, {"node": 0, "at": [99, 0]},
        {"node": 0, "at": [True, 0]},
    ],
)  # fmt: skip
def test_places_that_are_none_are_refused(network: Network, question: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="legal"):
        network.field(question)


def test_models_come_from_the_command_alone() -> None:
    assert not {"model", "field", "fit"} & set(ANSWERS)
