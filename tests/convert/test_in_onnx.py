"""``convert``: what both of torch's exporters write has stock operators alone, and ONNX Runtime agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from outstride import convert, nn
from tests.cases import BY_ID
from tests.convert.test_subpixel import UNet, integers_
from tests.convert.test_zero_insertion import layer_of
from tests.operands import draw
from tests.tolerance import assert_integers_equal

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning",
    "ignore::UserWarning",
    "ignore::torch.jit.TracerWarning",
    "ignore::FutureWarning",
)


def run_onnx(
    model: torch.nn.Module, x: torch.Tensor, dynamic: bool, tmp_path: Path
) -> tuple[Any, set[str], set[str]]:
    """The model in ONNX Runtime: its session's answer, and the operators and their domains."""
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    file = tmp_path / "model.onnx"
    axes = {"x": {axis: f"n{axis}" for axis in range(2, x.dim())}} if dynamic else None
    torch.onnx.export(
        model.eval(), (x,), file, dynamo=False, opset_version=17, input_names=["x"], dynamic_axes=axes
    )
    graph = onnx.load(str(file))
    onnx.checker.check_model(graph)
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    operators = {node.op_type for node in graph.graph.node}
    return session, operators, {node.domain for node in graph.graph.node}


_EXPORTED: dict[str, Any] = {
    "sub-pixel": (convert.to_subpixel, "transpose2d-dilation-shares-factor"),
    "sub-pixel, 3-d": (convert.to_subpixel, "transpose3d-mixed"),
    "sub-pixel, same": (convert.to_subpixel, "transpose2d-same-stride-2"),
    "sub-pixel, border beyond": (convert.to_subpixel, "transpose2d-padding-beyond-kernel"),
    "space to depth": (convert.to_space_to_depth, "conv2d-kernel-3x5-stride-3x4"),
    "space to depth, same": (convert.to_space_to_depth, "conv2d-same-stride-2"),
}


@pytest.mark.parametrize("name", _EXPORTED)
def test_onnx_runtime_gives_the_same_with_stock_operators(name: str, tmp_path: Path) -> None:
    rewrite, case_id = _EXPORTED[name]
    case = BY_ID[case_id]
    operands = draw(case, "integers", torch.float32)
    layer = layer_of(case, operands)
    session, operators, domains = run_onnx(rewrite(layer), operands.input, False, tmp_path)
    found = np.asarray(session.run(None, {"x": operands.input.numpy()})[0])
    with torch.no_grad():
        assert_integers_equal(torch.from_numpy(found), layer(operands.input).double().numpy(), torch.float32)
    assert domains <= {"", "ai.onnx"}
    assert "ConvTranspose" not in operators
    assert "Conv" in operators


@pytest.mark.parametrize("name", ["plane", "pair", "model"])
def test_an_exported_form_takes_every_size(name: str, tmp_path: Path) -> None:
    up = integers_(torch.nn.ConvTranspose2d(3, 4, 5, stride=3, padding=2, output_padding=1))
    pair = integers_(torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.PixelShuffle(2)))
    whole = {
        "plane": (up, convert.to_subpixel(up)),
        "pair": (pair, convert.from_subpixel(pair)),
        "model": (model := integers_(UNet()).eval(), convert.to_subpixel(model)),
    }
    original, form = whole[name]
    session, operators, _ = run_onnx(form, torch.zeros(1, 3, 8, 8), True, tmp_path)
    assert ("ConvTranspose" in operators) == (name == "pair")
    for size in ((8, 8), (12, 20)):
        x = torch.randint(-2, 3, (1, 3, *size), generator=torch.Generator().manual_seed(7)).float()
        found = np.asarray(session.run(None, {"x": x.numpy()})[0])
        with torch.no_grad():
            assert_integers_equal(torch.from_numpy(found), original(x).double().numpy(), torch.float32)


_CONV, _UP = torch.nn.Conv2d, torch.nn.ConvTranspose2d


def _same(mode: str) -> Any:
    return lambda: (
        nn.Conv2d(3, 2, 3, 2, padding="same", padding_mode=mode),
        nn.Conv2d(2, 2, 4, 3, padding="same", padding_mode=mode),
    )


_IN_A_ROW: dict[str, Any] = {
    "space to depth": (convert.to_space_to_depth, lambda: (_CONV(3, 2, 3, 2, 1), _CONV(2, 2, 3, 2, 1))),
    "space to depth, uneven": (
        convert.to_space_to_depth,
        lambda: (_CONV(3, 2, 3, (1, 2), 1), _CONV(2, 2, (5, 3), (3, 2), (0, 3), dilation=(1, 2))),
    ),
    "space to depth, reflected": (
        convert.to_space_to_depth,
        lambda: (_CONV(3, 2, 3, 2, 1, padding_mode="reflect"), _CONV(2, 2, 3, 2, 1, padding_mode="circular")),
    ),
    "space to depth, same": (convert.to_space_to_depth, _same("zeros")),
    "space to depth, same, reflected": (convert.to_space_to_depth, _same("reflect")),
    "space to depth, same, wrapping": (convert.to_space_to_depth, _same("circular")),
    "sub-pixel": (convert.to_subpixel, lambda: (_UP(3, 2, 5, (3, 2), 1), _UP(2, 2, 4, (2, 3), 1))),
    "zeros inserted": (convert.to_conv, lambda: (_UP(3, 2, 5, (3, 2), 1), _UP(2, 2, 4, (2, 3), 1))),
    "there and back": (
        lambda model: convert.to_subpixel(convert.to_space_to_depth(model)),
        lambda: (_CONV(3, 2, 3, 2, 1), _CONV(2, 2, 3, 2, 1), _UP(2, 2, 4, 2, 1), _UP(2, 1, 3, 3)),
    ),
}


@pytest.mark.parametrize("name", _IN_A_ROW)
def test_layers_in_a_row_follow_the_size(name: str, tmp_path: Path) -> None:
    rewrite, layers = _IN_A_ROW[name]
    original = integers_(torch.nn.Sequential(*layers())).eval()
    session, _, _ = run_onnx(rewrite(original), torch.zeros(1, 3, 20, 24), True, tmp_path)
    for size in ((20, 24), (33, 47), (64, 31), (21, 25)):
        x = torch.randint(-2, 3, (1, 3, *size), generator=torch.Generator().manual_seed(7)).float()
        found = np.asarray(session.run(None, {"x": x.numpy()})[0])
        with torch.no_grad():
            assert_integers_equal(torch.from_numpy(found), original(x).double().numpy(), torch.float32)


def whole(*size: int) -> torch.Tensor:
    """Small whole numbers, two images of three channels."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(-2, 3, (2, 3, *size), generator=generator).float()


_FREE: dict[str, Any] = {
    "sub-pixel": (convert.to_subpixel, lambda: _UP(3, 4, 5, 3, 2, 1)),
    "sub-pixel, 3-d": (convert.to_subpixel, lambda: torch.nn.ConvTranspose3d(3, 4, 3, 2)),
    "sub-pixel, 1-d": (convert.to_subpixel, lambda: torch.nn.ConvTranspose1d(3, 4, 3, 2)),
    "sub-pixel, wrapping": (
        convert.to_subpixel,
        lambda: nn.ConvTranspose2d(3, 4, 4, 2, 1, padding_mode="circular"),
    ),
    "zeros inserted": (convert.to_conv, lambda: _UP(3, 4, 5, 3, 2, 1)),
    "space to depth": (convert.to_space_to_depth, lambda: torch.nn.Conv2d(3, 4, 3, 2, 1)),
    "space to depth, same": (convert.to_space_to_depth, lambda: nn.Conv2d(3, 4, 3, 2, padding="same")),
    "space to depth, 1-d": (convert.to_space_to_depth, lambda: torch.nn.Conv1d(3, 4, 7, 4, 3)),
    "from sub-pixel": (
        convert.from_subpixel,
        lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.PixelShuffle(2)),
    ),
    "whole model": (convert.to_subpixel, UNet),
}
_QUICK = ("sub-pixel", "space to depth, same", "whole model")


@pytest.mark.parametrize(
    "name", [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in _FREE]
)
def test_the_graph_exporter_takes_every_form_and_every_size(name: str, tmp_path: Path) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    rewrite, make = _FREE[name]
    original = integers_(make()).eval()
    form = rewrite(original)
    nd = {"1-d": 1, "3-d": 3}.get(name[-3:], 2)
    free = dict.fromkeys((0, *range(2, nd + 2)), torch.export.Dim.DYNAMIC)
    if name == "whole model":  # its skips join levels of a quarter of the size
        free = {0: torch.export.Dim.DYNAMIC}
    file, x = tmp_path / "model.onnx", whole(*(12, 16, 8)[:nd])
    torch.onnx.export(
        form.eval(), (x,), str(file), dynamo=True, dynamic_shapes=(free,), external_data=False, verbose=False
    )
    graph = onnx.load(str(file))
    onnx.checker.check_model(graph)
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    operators = {node.op_type for node in graph.graph.node}
    assert ("ConvTranspose" in operators) == name.startswith("from")
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    others = ((12, 16, 8),) if name == "whole model" else ((12, 16, 8), (13, 19, 7), (20, 15, 9))
    for size in others:
        given = whole(*size[:nd])
        found = np.asarray(session.run(None, {session.get_inputs()[0].name: given.numpy()})[0])
        with torch.no_grad():
            expected = original(given).double().numpy()
        assert_integers_equal(torch.from_numpy(found), expected, torch.float32)
