"""``algorithm`` of the layers: an argument and an attribute, printed where it is none of torch's."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from outstride import ConvSpec, nn
from outstride.errors import ArgumentError
from outstride.layer.shortening import ALGORITHMS
from outstride.nn.serving import algorithm_of, serve, serving_of
from tests.asking import asked
from tests.tolerance import assert_same_bits

_CONVS = [f"Conv{transpose}{nd}d" for transpose in ("", "Transpose") for nd in (1, 2, 3)]
_layer = pytest.mark.parametrize("name", _CONVS)
_any_layer = pytest.mark.parametrize("name", [*_CONVS, *(f"Lazy{name}" for name in _CONVS)])
_either = pytest.mark.parametrize("algorithm", ALGORITHMS)


def _make(name: str, **arguments: Any) -> Any:
    torch.manual_seed(2)
    channels = (6,) if name.startswith("Lazy") else (4, 6)
    return getattr(nn, name)(*channels, 3, stride=2, padding=1, **arguments)


def _input(name: str) -> Tensor:
    return torch.randn(2, 4, *[6] * int(name[-2]), generator=torch.Generator().manual_seed(1))


@_either
@_any_layer
def test_it_is_an_argument_and_an_attribute(name: str, algorithm: str) -> None:
    layer, plain = _make(name, algorithm=algorithm), _make(name)
    assert (layer.algorithm, plain.algorithm) == (algorithm, "auto")
    with asked() as names:
        result = layer(_input(name))
        torch.autograd.grad(result.pow(2).sum(), layer.weight)
    assert set(names) == {algorithm}
    assert type(layer) is getattr(nn, name.removeprefix("Lazy"))
    assert (layer.algorithm, algorithm_of(layer)) == (algorithm, algorithm)


@_any_layer
def test_it_is_given_by_keyword(name: str) -> None:
    parameters = inspect.signature(getattr(nn, name)).parameters
    assert [p.name for p in parameters.values() if p.kind is p.KEYWORD_ONLY] == ["algorithm"]
    assert parameters["algorithm"].default == "auto"


@_layer
def test_it_may_be_set(name: str) -> None:
    layer, x = _make(name), _input(name)
    for algorithm in ("direct", "auto", "direct"):
        layer.algorithm = algorithm
        with asked() as names:
            layer(x)
        assert set(names) == {algorithm}
    layer.algorithm = "fast"
    with pytest.raises(RuntimeError, match="'algorithm' must be one of its names: got algorithm='fast'"):
        layer(x)


@_any_layer
def test_another_name_is_refused_in_the_words_of_the_function(name: str) -> None:
    with pytest.raises(ArgumentError) as refusal:
        _make(name, algorithm="fast")
    assert str(refusal.value) == (
        "'algorithm' must be one of its names: got algorithm='fast'; legal: 'auto', 'direct'"
    )


@_layer
def test_it_is_printed_where_torch_has_no_word_for_it(name: str) -> None:
    stock = getattr(torch.nn, name)(4, 6, 3, stride=2, padding=1)
    assert repr(_make(name)) == repr(stock)
    layer = _make(name, algorithm="direct")
    assert repr(layer) == f"{repr(stock)[:-1]}, algorithm='direct')"
    assert ConvSpec.parse(repr(layer)) == ConvSpec.of(layer) == ConvSpec.of(stock)


@_layer
def test_state_is_torchs(name: str) -> None:
    layer, plain = _make(name, algorithm="direct"), _make(name)
    assert list(layer.state_dict()) == list(plain.state_dict()) == ["weight", "bias"]
    plain.load_state_dict(layer.state_dict())
    assert plain.algorithm == "auto"


@_either
@_layer
def test_copies_and_pickles_keep_it(name: str, algorithm: str) -> None:
    layer, x = _make(name, algorithm=algorithm), _input(name)
    served = getattr(torch.nn, name)(4, 6, 3)
    serve(served, getattr(nn, name), algorithm)
    for original in (layer, served):
        for other in (copy.copy(original), copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
            assert algorithm_of(other) == algorithm
            with asked() as names:
                assert_same_bits(other(x), original(x))
            assert set(names) == {algorithm}


@_layer
def test_layers_from_before_ask_for_auto(name: str) -> None:
    layer, x = _make(name), _input(name)
    served = getattr(torch.nn, name)(4, 6, 3)
    serve(served, getattr(nn, name))
    serving = serving_of(served)
    assert serving is not None
    del vars(layer)["algorithm"], vars(serving)["algorithm"]
    for original in (layer, served):
        for other in (original, copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
            assert algorithm_of(other) == "auto"
            assert "algorithm" not in repr(other)
            with asked() as names:
                other(x)
            assert set(names) == {"auto"}


def test_torchs_own_layers_ask_for_auto() -> None:
    layer: Any = torch.nn.Conv2d(3, 4, 3)
    layer.algorithm = "somebody else's"
    assert algorithm_of(layer) == algorithm_of(torch.nn.ReLU()) == algorithm_of(None) == "auto"


@_layer
def test_scripts_are_torchs(name: str) -> None:
    layer, x = _make(name, algorithm="direct"), _input(name)
    scripted: Any = torch.jit.script(layer)
    assert scripted(x).shape == layer(x).shape


@pytest.mark.skipif(
    sys.version_info[:3] == (3, 13, 0),
    reason="this Python does not tell compilers of attributes (cpython#125608)",
)
def test_compiled_layers_follow_what_is_set() -> None:
    torch._dynamo.reset()
    layer, x = _make("Conv2d"), _input("Conv2d")
    compiled: Any = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for algorithm in ("auto", "direct", "auto"):
        layer.algorithm = algorithm
        with asked() as names:
            compiled(x)
        assert set(names) == {algorithm}


@_either
def test_compiled_and_exported_layers_keep_it(algorithm: str) -> None:
    torch._dynamo.reset()
    layer, x = _make("ConvTranspose2d", algorithm=algorithm), _input("ConvTranspose2d")
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    program: Any = torch.export.export(layer, (x,)).module()
    for call in (compiled, program):
        with asked() as names:
            assert_same_bits(call(x), layer(x))
        assert set(names) == {algorithm}
