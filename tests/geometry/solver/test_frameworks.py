"""What a verdict writes for torch, Keras and ONNX is built there and computes the reference."""

from __future__ import annotations

import ast
import os
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from math import lcm
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from outstride import geometry, reference
from outstride.geometry import Solution
from tests.tolerance import assert_integers_equal

BOUNDS: dict[str, Any] = {"kernel_size": range(1, 6), "dilation": (1, 2, 3), "asymmetric": True}
QUESTIONS = [
    *(("conv", sizes, BOUNDS) for sizes in [(10, 5), (7, 7), (9, 3), (5, 4)]),
    *(("conv_transpose", sizes, BOUNDS) for sizes in [(5, 10), (7, 13), (3, 9), (6, 11), (4, 3)]),
    *(("max_pool", sizes, BOUNDS) for sizes in [(10, 5), (9, 3), (7, 4)]),
    *(("avg_pool", sizes, BOUNDS) for sizes in [(10, 5), (9, 3), (7, 4)]),
    ("conv", ((8, 9), (4, 5)), {}),
    ("conv_transpose", ((3, 4), (6, 7)), {}),
    ("max_pool", ((8, 6), (4, 3)), {}),
    ("avg_pool", ((8, 6), (4, 3)), {}),
    ("conv_transpose", ((2, 3, 2), (4, 6, 4)), {}),
    ("avg_pool", ((4, 2, 6), (2, 1, 3)), {"kernel_size": (2, 4), "ceil_mode": False}),
]
# Averages of multiples of these are integers, whatever a window counts, and their sums fit float32.
_COUNTS = {1: lcm(*range(1, 8)), 2: lcm(*range(1, 8)) ** 2, 3: 4**3}


def solutions(kind: Any, sizes: Any, bounds: dict[str, Any]) -> Iterator[Solution]:
    """A spread of the answers: the best sixty, and then every fifth."""
    if isinstance(sizes[0], int):
        sizes = ((sizes[0],), (sizes[1],))
    found = geometry.solve(*sizes, kind=kind, in_channels=1, out_channels=1, **bounds)
    yield from (s for number, s in enumerate(islice(found, 300)) if number < 60 or number % 5 == 0)


def operands(solution: Solution) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An input, a weight and what the reference makes of them."""
    spec = solution.spec
    rng = np.random.default_rng([spec.nd, *spec.kernel_size, *spec.stride])
    x = rng.integers(-4, 5, (1, 1, *(solution.input_size or ()))).astype(np.float64)
    w = rng.integers(-4, 5, (1, 1, *spec.kernel_size)).astype(np.float64)
    shape: dict[str, Any] = {"stride": spec.stride, "padding": spec.padding, "dilation": spec.dilation}
    if spec.kind == "conv":
        return x, w, reference.conv(x, w, **shape)
    if spec.kind == "conv_transpose":
        return x, w, reference.conv_transpose(x, w, output_padding=spec.output_padding, **shape)
    mode: Any = spec.kind[:3]
    if mode == "avg":
        x = np.sign(x) * _COUNTS[spec.nd]
    return x, w, reference.pool(x, spec.kernel_size, mode=mode, ceil_mode=spec.ceil_mode, **shape)


def in_torch(layers: tuple[str, ...], x: np.ndarray, w: np.ndarray) -> torch.Tensor:
    y = torch.from_numpy(x)
    for text in layers:
        layer: Any = eval(f"nn.{text}", {"nn": nn, "float": float}).double()
        if hasattr(layer, "weight"):
            nn.init.zeros_(layer.bias)
            layer.weight.data.copy_(torch.from_numpy(w))
        y = layer(y)
    return y.detach()


def in_keras(layers: tuple[str, ...], x: np.ndarray, w: np.ndarray) -> torch.Tensor:
    os.environ.setdefault("KERAS_BACKEND", "torch")  # read on the first import; else it looks for TensorFlow
    keras: Any = import_module("keras")
    y: Any = torch.from_numpy(x).movedim(1, -1)
    for text in layers:
        layer = eval(f"keras.layers.{text[:-1]}, dtype='float64')", {"keras": keras})
        if "Conv" in text:
            layer.build(tuple(y.shape))
            layer.set_weights([w[0, 0][..., None, None], np.zeros(1)])
        y = layer(y)
    return torch.as_tensor(y).detach().movedim(-1, 1)


def in_onnx(text: str, x: np.ndarray, w: np.ndarray) -> torch.Tensor:
    from onnx import TensorProto, checker, helper

    runtime: Any = import_module("onnxruntime")
    name, _, rest = text.partition("(")
    call: Any = ast.parse(f"f({rest}", mode="eval").body
    attributes = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    fed = {"x": x.astype(np.float32)} | ({"w": w.astype(np.float32)} if "Conv" in name else {})
    inputs = [
        helper.make_tensor_value_info(key, TensorProto.FLOAT, value.shape) for key, value in fed.items()
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, *["n"] * (x.ndim - 2)])
    graph = helper.make_graph(
        [helper.make_node(name, list(fed), ["y"], **attributes)], "one", inputs, [output]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    checker.check_model(model, full_check=True)
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = runtime.InferenceSession(model.SerializeToString(), options)
    return torch.from_numpy(session.run(None, fed)[0]).double()


def compared(framework: str, question: Any) -> Counter[str]:
    marks: Counter[str] = Counter()
    for solution in solutions(*question):
        verdict = solution.frameworks[framework]
        marks[verdict.mark] += 1
        assert verdict.reason
        if not verdict.valid:
            continue
        x, w, expected = operands(solution)
        layers = tuple(text.replace("filters", "1") for text in verdict.layers)
        if framework == "onnx":
            result = in_onnx(layers[0], x, w)
        else:
            result = (in_torch if framework == "torch" else in_keras)(layers, x, w)
        assert_integers_equal(result, expected, torch.float64, f"{framework} {layers} for {solution.spec}")
    return marks


def name_of(question: Any) -> str:
    return f"{question[0]}-{question[1]}".replace(" ", "")


@pytest.mark.parametrize("question", QUESTIONS, ids=name_of)
def test_torch_computes_what_the_verdict_writes(question: Any) -> None:
    marks = compared("torch", question)
    assert marks["yes"] > 0


@pytest.mark.skipif(find_spec("keras") is None, reason="keras is not installed")
@pytest.mark.parametrize("question", QUESTIONS, ids=name_of)
def test_keras_computes_what_the_verdict_writes(question: Any) -> None:
    marks = compared("keras", question)
    assert marks["yes"] + marks["more"] > 0


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
@pytest.mark.parametrize("question", QUESTIONS, ids=name_of)
def test_onnx_computes_what_the_verdict_writes(question: Any) -> None:
    marks = compared("onnx", question)
    assert marks["yes"] > 0


def refused_by_keras(solution: Solution) -> bool:
    """Whether building the plain layer raises."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    layers: Any = import_module("keras").layers
    spec = solution.spec
    extra = {"output_padding": spec.output_padding} if spec.kind == "conv_transpose" else {}
    family = "Conv1DTranspose" if spec.kind == "conv_transpose" else "Conv1D"
    try:
        getattr(layers, family)(
            1, spec.kernel_size, strides=spec.stride, dilation_rate=spec.dilation, **extra
        )
    except ValueError:
        return True
    return False


@pytest.mark.skipif(find_spec("keras") is None, reason="keras is not installed")
@pytest.mark.parametrize("kind", ["conv", "conv_transpose"])
def test_what_keras_is_said_not_to_have_it_refuses(kind: Any) -> None:
    sizes = (5, 10) if kind == "conv_transpose" else (10, 5)
    refused = [s for s in solutions(kind, sizes, BOUNDS) if not s.frameworks["keras"].valid]
    assert refused
    assert all(refused_by_keras(solution) for solution in refused)


def test_what_torch_is_said_not_to_have_it_refuses() -> None:
    found = geometry.solve((2, 3, 3), (2, 3, 3), kind="avg_pool", kernel_size=3, stride=1)[0]
    assert found.frameworks["torch"].mark == "no"
    with pytest.raises(RuntimeError):
        in_torch((repr(found.spec),), np.zeros((1, 1, 2, 3, 3)), np.zeros(0))
