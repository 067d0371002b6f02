"""``accelerate(model, algorithm=...)``: what every layer of a model is computed by."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch.nn.utils import parametrizations

from outstride import accelerate, acceleration, nn, restore
from outstride.errors import ArgumentError
from outstride.layer.shortening import ALGORITHMS
from outstride.nn.serving import algorithm_of, serving_of
from tests.asking import asked
from tests.tolerance import assert_same_bits

_either = pytest.mark.parametrize("algorithm", ALGORITHMS)


def _model() -> Any:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        parametrizations.spectral_norm(torch.nn.Conv2d(8, 8, 3)),
        nn.Conv2d(8, 8, 3, padding="same"),
        torch.nn.ConvTranspose2d(8, 3, 4, stride=2),
    ).eval()


def _asks(model: Any) -> list[str]:
    return [algorithm_of(module) for module in model if not isinstance(module, torch.nn.ReLU)]


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("inplace", [False, True])
@_either
def test_every_layer_is_computed_by_it(algorithm: str, inplace: bool, x: torch.Tensor) -> None:
    model = _model()
    served = accelerate(model, inplace, algorithm=algorithm)
    assert (served is model) == inplace
    assert _asks(served) == [algorithm] * 4
    with asked() as names:
        served(x).sum().backward()
    assert set(names) == {algorithm}
    assert inplace or _asks(model) == ["auto"] * 4
    for other in (copy.deepcopy(served), copy.copy(served)):
        assert _asks(other) == [algorithm] * 4


def test_pickles_keep_it(x: torch.Tensor) -> None:
    served = accelerate(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3)), algorithm="direct")
    again = pickle.loads(pickle.dumps(served))
    assert _asks(again) == ["direct"]
    assert_same_bits(again(x), served(x))


def test_auto_leaves_each_layer_what_it_asks_for() -> None:
    model = _model()
    model[3].algorithm = "direct"
    served = accelerate(model)
    assert _asks(served) == ["auto", "auto", "direct", "auto"]
    assert _asks(accelerate(accelerate(model, algorithm="direct"))) == ["direct"] * 4
    assert _asks(accelerate(served, algorithm="direct")) == ["direct"] * 4
    assert _asks(served) == ["auto", "auto", "direct", "auto"]
    twice = accelerate(accelerate(served, inplace=True, algorithm="direct"), inplace=True)
    assert _asks(twice) == ["direct"] * 4


def test_restore_takes_it_back() -> None:
    model = accelerate(_model(), algorithm="direct")
    assert restore(model) is model
    assert not any("algorithm" in vars(module) for module in model)
    assert all(serving_of(module) is None for module in model)
    assert _asks(accelerate(model)) == ["auto"] * 4


def test_a_summary_says_what_is_not_usual() -> None:
    fates = [fate for _, _, fate in acceleration.summary(accelerate(_model(), algorithm="direct")).layers]
    assert fates == ["served, algorithm='direct'"] * 4
    assert [fate for _, _, fate in acceleration.summary(accelerate(_model())).layers] == ["served"] * 4


def test_another_name_is_refused_before_anything_is_done() -> None:
    model = _model()
    with pytest.raises(ArgumentError) as refusal:
        accelerate(model, inplace=True, algorithm="fast")
    assert str(refusal.value) == (
        "'algorithm' must be one of its names: got algorithm='fast'; legal: 'auto', 'direct'"
    )
    assert all(serving_of(module) is None for module in model)


@pytest.mark.skipif(torch.__version__ < "2.8", reason="its tracer does not follow a served layer's call")
@_either
def test_compiled_models_ask_for_it(algorithm: str, x: torch.Tensor) -> None:
    torch._dynamo.reset()
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ConvTranspose2d(8, 3, 4, stride=2))
    served = accelerate(model, algorithm=algorithm)
    compiled = torch.compile(served, fullgraph=True, backend="aot_eager")
    with asked() as names:
        assert_same_bits(compiled(x), served(x))
    assert set(names) == {algorithm}
