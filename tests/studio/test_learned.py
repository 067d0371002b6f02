"""Kernels of the model that the command named, on a photograph: their numbers, their layer, their place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from outstride import ConvSpec
from outstride.cli import main
from outstride.errors import ArgumentError
from outstride.studio.answers import ANSWERS
from outstride.studio.kernels import is_signed, kernel, names
from outstride.studio.learned import Learned, learned_in, learned_of
from outstride.studio.networks import Network
from tests.studio.browser import launched, served
from tests.tolerance import assert_within

#: A link keeps five digits of each of some 9 numbers below 1, times inputs below 1.
KEPT = 9 * 1e-4


def first(model: nn.Module) -> Learned:
    found = learned_of(model)
    assert found is not None
    return found


def test_a_grey_picture_meets_the_sum_over_channels() -> None:
    torch.manual_seed(1)
    layer = nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False).double()
    found = first(nn.Sequential(nn.Identity(), layer, nn.Conv2d(5, 5, 1)))
    assert found.name == "1"
    assert found.spec == ConvSpec.parse("Conv2d(1, 1, 3, stride=2, padding=1, bias=False)")
    grey = torch.rand(1, 1, 9, 9, dtype=torch.float64)
    rows = [one["numbers"] for one in found.described({})["kernels"]]
    weight = torch.tensor(rows, dtype=torch.float64).view(5, 1, 3, 3)
    with torch.no_grad():
        whole = layer(grey.expand(1, 3, 9, 9))
        alone = nn.functional.conv2d(grey, weight, stride=2, padding=1)
    assert_within(alone, whole, KEPT, "digits of a link")


def test_a_transposed_layer_sums_over_its_inputs_too() -> None:
    found = first(nn.ConvTranspose2d(4, 2, 4, stride=2, padding=1))
    assert found.spec == ConvSpec.parse("ConvTranspose2d(1, 1, 4, stride=2, padding=1, bias=False)")
    assert [len(one["numbers"]) for one in found.described({})["kernels"]] == [16, 16]


@pytest.mark.parametrize(
    "model", [nn.Linear(2, 2), nn.Conv1d(1, 1, 3), nn.Conv2d(1, 1, 3, device="meta"), nn.Conv2d(1, 1, 40)]
)
def test_where_there_are_none_none_are_offered(model: nn.Module) -> None:
    assert learned_of(model) is None


def test_a_saved_state_has_kernels_too(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv1d(1, 1, 3), nn.Conv2d(3, 8, 5))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    found = learned_in(tmp_path / "weights.pt")
    assert (found.name, found.start()["learned"], found.start()["mode"]) == ("1", "1", "picture")
    assert found.spec == ConvSpec.parse("Conv2d(1, 1, 5, padding=2, bias=False)")
    assert ANSWERS["picture"]({"layer": repr(found.spec), "kernel": "typed"})["kernel"] == "typed"
    torch.save({"weight": torch.ones(3, 3)}, tmp_path / "flat.pt")
    with pytest.raises(ArgumentError, match="must have a convolution over pictures"):
        learned_in(tmp_path / "flat.pt")


@pytest.mark.parametrize(
    ("arguments", "said"), [(["no.pt"], "no.pt"), (["no.pt", "--input", "1x1x8x8"], "'--input'")]
)
def test_the_command_refuses_what_is_no_state(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["studio", *arguments, "--no-browser"])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_the_page_alone_names_no_file() -> None:
    assert "learned" not in ANSWERS
    network = Network("small", nn.Conv2d(3, 2, 3), (1, 3, 8, 8))
    assert network.start() == {"model": "small", "learned": "Conv2d"}
    assert set(network.answers()) == {"model", "field", "fit", "learned"}


@pytest.mark.parametrize("size", [3, 5, 7])
def test_kernels_with_a_name_compare_or_sum_as_before(size: int) -> None:
    spec = ConvSpec.parse(f"Conv2d(1, 1, {size})")
    made = {name: kernel(spec, name, torch.ones(size, size).double().numpy()) for name in names(spec)}
    assert {name for name, one in made.items() if is_signed(one)} == {"edges", "outline"}


def test_a_click_takes_a_learned_kernel() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.ReLU())
    with launched() as browser, served(model=Network("small", model, (1, 3, 16, 16))) as link:
        page = browser.new_page(reduced_motion="reduce")
        page.goto(f"{link}#mode=picture&step=0")
        page.wait_for_selector("html[data-ready=yes]")
        page.get_by_role("button", name="0 [4]").click()
        page.locator(".chip[aria-pressed=true]", has_text="as typed").wait_for()
        assert page.input_value("#layer") == "Conv2d(1, 1, 3, stride=2, padding=1, bias=False)"
        assert page.locator(".kernel").count() == 6
