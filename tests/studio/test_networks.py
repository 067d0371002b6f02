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
    assert dict(found["down"]["facts"])["height"].startswith("stride 2, reads 3")
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


class Norms(nn.Module):
    """What nnU-Net and EfficientNet do: a norm over all positions, and a gate by the mean of all."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4)
        self.pool, self.last = nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.first(x))
        x = x * torch.sigmoid(self.pool(x))
        head: Tensor = self.last(x).mean((2, 3))
        return head


@pytest.fixture(scope="module")
def norms() -> Network:
    return Network("norms", Norms(), (1, 1, 12, 12))


def test_statistics_of_the_whole_image_are_named_beside_what_is_read(norms: Network) -> None:
    found = nodes(norms)
    read = norms.field({"node": found["last"]["index"], "at": [6, 6]})
    assert read["boxes"]["0"] == [[4, 9], [4, 9]]
    assert (read["through"], read["more"]) == (["norm", "pool"], 0)
    head = norms.field({"node": found["mean"]["index"], "at": []})
    assert (head["boxes"]["0"], head["through"]) == ([[0, 12], [0, 12]], [])


def test_findings_have_their_places(norms: Network, network: Network) -> None:
    found = {one["text"]: one for one in norms.described({})["findings"]}
    assert found["takes the mean over all positions"]["places"][0][0] == "pool"
    assert not found["takes the mean over all positions"]["bad"]
    by_name = {place[0]: one for one in network.described({})["findings"] for place in one["places"]}
    assert by_name["up"]["text"].startswith("uneven weights (output, ripple 0.")
    assert by_name["up"]["bad"]
    assert by_name["up"]["places"] == [["up", nodes(network)["up"]["index"]]]
    assert "equalize_" in by_name["up"]["helps"][0]


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


def test_a_saved_program_has_the_names_that_it_was_exported_from() -> None:
    program = torch.export.export(Small().eval(), (torch.rand(1, 3, 16, 16),)).module()
    network = Network("saved", program, (1, 3, 16, 16))
    found = nodes(network)
    assert {"down", "norm", "same", "up"} <= set(found)
    assert dict(found["down"]["facts"])["height"].startswith("stride 2, reads 3")
    own = Network("small", Small(), (1, 3, 16, 16))
    question = {"node": found["up"]["index"], "at": [7, 8]}
    assert network.field(question)["boxes"]["0"] == own.field(question)["boxes"]["0"]
    assert network.fit({"size": "17"})["said"] == ["height 17: crop 1", "width 17: crop 1"]
