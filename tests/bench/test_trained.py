"""Residuals of networks that are trained first: what is learned from, what is compared, and its table."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from outstride.bench import document, report, results, trained
from outstride.bench.results import Results
from outstride.bench.trained_networks import HOP, TASKS, photograph, spectrum, voice
from outstride.cli import main
from outstride.errors import ArgumentError
from tests.tolerance import assert_within


@pytest.fixture(scope="module", params=list(TASKS))
def entries(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """What is found out about a network after two steps."""
    return list(trained.observe(request.param, 1, steps=2))


def test_every_short_layer_and_the_whole_are_compared(entries: list[dict[str, Any]]) -> None:
    *layers, whole = entries
    assert len(layers) > 3
    assert whole["layer"] == trained.WHOLE
    assert len({entry["id"] for entry in entries}) == len(entries)
    for entry in entries:
        assert 0 < entry["mean_error"] < entry["residual"] < 1e-5
        assert 0 < entry["direct_mean_error"] < entry["direct_residual"] < 1e-5
        assert 0 < entry["apart"] <= 1.01 * (entry["residual"] + entry["direct_residual"])
        assert 0 <= entry["zeros"] < 1
        assert report.observation("trained", entry).startswith(f"{entry['id']}: residual ")


def test_training_learns_and_is_the_same_each_time() -> None:
    losses = []
    for _ in range(2):
        torch.manual_seed(0)
        task = TASKS["a photograph enlarged"]()
        before = copy.deepcopy(task.network.state_dict())
        losses.append(trained.train(task, 12))
        assert all(bool((value != before[name]).any()) for name, value in task.network.state_dict().items())
    assert losses[0] == losses[1]
    assert losses[0][1] < losses[0][0]


def test_what_is_compared_is_the_layer() -> None:
    layer, x = torch.nn.Conv2d(64, 64, 3), torch.randn(1, 64, 9, 9)
    truth = copy.deepcopy(layer).double()(x.double())
    good, bad = (trained.compare(layer, x, to) for to in (truth, truth + truth.abs().max()))
    assert good["residual"] < 1e-6
    assert good["apart"] > 0
    for name in ("residual", "direct_residual"):
        assert bad[name] > 0.4


def test_picture_and_sound_are_what_they_should_be() -> None:
    picture, sound = photograph(), voice()
    assert picture.shape[:2] == (1, 3)
    assert 0.1 < float(picture.mean()) < 0.9
    assert float(picture.std()) > 0.1
    assert sound.shape[:2] == (1, 1)
    assert_within(float(sound.abs().max()), 1.0, 1e-6, "it is divided by its largest value")
    found = spectrum(sound, 256)
    assert found.shape == (1, 129, sound.shape[2] // HOP)


def test_its_table_stands_on_the_page(entries: list[dict[str, Any]], tmp_path: Path) -> None:
    machine = {"cpu": "A CPU", "cores": 2, "system": "Linux", "python": "3", "versions": {}, "commit": "abc"}
    found = Results(machine=machine)
    for entry in entries:
        found.observe("trained", entry, ["id"])
    found.save(tmp_path / "results.json")
    assert results.read(tmp_path / "results.json").studies == {"trained": json.loads(json.dumps(entries))}
    document.write([tmp_path / "results.json"], tmp_path)
    page = (tmp_path / "performance.md").read_text()
    assert page.count("### Rounding in trained networks") == 1
    rows = [line for line in page.splitlines() if line.startswith(("| `", f"| {trained.WHOLE}"))]
    assert [row.split(" | ")[0].strip("| `") for row in rows] == [entry["layer"] for entry in entries]
    assert f"| {entries[0]['residual']:.1e} | {entries[0]['direct_residual']:.1e} |" in rows[0]


def test_networks_are_chosen_by_a_part_of_their_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert trained.select([]) == list(TASKS)
    assert trained.select(["U-NET", "vocoder"]) == list(TASKS)[1:]
    with pytest.raises(ArgumentError, match=r"must be a part of a photograph enlarged.*got nothing"):
        trained.select(["nothing"])
    monkeypatch.setattr(trained, "resolved", lambda _: "direct")
    for arguments, words in (
        (["--filter", "vocoder"], "OUTSTRIDE_ALGORITHM"), (["--filter", "none"], "'--filter' must be a part"),
        (["--contenders", "torch"], "'--contenders' must be left out"),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as stop:
            main(["bench", "--study", "trained", *arguments])
        assert stop.value.code == 2
        assert words in capsys.readouterr().err


def test_the_verb_goes_on_where_it_stopped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: list[str] = []

    def observe(name: str, threads: int) -> list[dict[str, Any]]:
        asked.append(name)
        figures = dict.fromkeys(("residual", "direct_residual", "mean_error", "direct_mean_error"), 1e-7)
        told = {"id": f"{name}: all", "network": name, "layer": "all", "threads": threads, "cache": ""}
        return [
            {**told, "contender": "outstride", "steps": 1, "loss": 1.0, "apart": 0.0, "zeros": 0.0, **figures}
        ]

    monkeypatch.setattr(trained, "observe", observe)
    for more in (["--filter", "vocoder"], []):
        with pytest.raises(SystemExit) as stop:
            main(["bench", "--study", "trained", "--out", str(tmp_path / "r.json"), "--resume", *more])
        assert stop.value.code == 0
    assert asked == ["a vocoder", *list(TASKS)[:2]]
    assert (
        "a vocoder: all: residual 1.0e-07, of the direct chain 1.0e-07: 1.00 of it" in capsys.readouterr().out
    )
