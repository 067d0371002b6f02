"""Exported programs: ONNX files by torch's newer exporter, and programs that another process loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.export import Dim

from outstride import accelerate, nn
from tests.tolerance import assert_integers_equal

OPEN = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC},)


def _input(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randint(-3, 4, shape, generator=generator).float()


def _with_integers(model: Any) -> Any:
    generator = torch.Generator().manual_seed(0)
    for tensor in model.parameters():
        tensor.data = torch.randint(-3, 4, tensor.shape, generator=generator).float()
    return model.eval().requires_grad_(False)


def _network() -> Any:
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1),
        torch.nn.ReLU(),
        torch.nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1, output_padding=1),
    )


MODELS: dict[str, Any] = {
    "accelerated": lambda: accelerate(_network()),
    "direct": lambda: accelerate(_network(), algorithm="direct"),
    "same": lambda: nn.Conv2d(3, 4, 3, stride=2, padding="same"),
    "per side": lambda: nn.Conv2d(3, 4, 3, stride=2, padding=((1, 2), (0, 1)), groups=1),
    "same transposed": lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding="same"),
    "per side transposed": lambda: nn.ConvTranspose2d(3, 4, 3, stride=2, padding=((1, 0), (0, 1))),
    "reflect": lambda: nn.Conv2d(3, 4, 3, padding=2, padding_mode="reflect"),
    "circular transposed": lambda: nn.ConvTranspose2d(3, 4, 5, stride=2, padding=2, padding_mode="circular"),
}


_FORMS = [
    pytest.param(name, exported, marks=[pytest.mark.slow] if not exported and name != "accelerated" else [])
    for name in MODELS
    for exported in (False, True)
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "exported"), _FORMS)
def test_the_newer_onnx_exporter_writes_stock_operators(name: str, exported: bool, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    model, path, example = _with_integers(MODELS[name]()), tmp_path / "model.onnx", _input(2, 3, 9, 10)
    if exported:
        program = torch.export.export(model, (example,), dynamic_shapes=OPEN, strict=False)
        torch.onnx.export(program, (), path, dynamo=True, verbose=False)
    else:
        torch.onnx.export(model, (example,), path, dynamic_shapes=OPEN, dynamo=True, verbose=False)
    graph = onnx.load(path).graph
    assert {node.domain for node in graph.node} <= {"", "ai.onnx"}
    if name in ("accelerated", "direct"):
        assert [node.op_type for node in graph.node] == ["Conv", "Relu", "ConvTranspose"]
    session = onnxruntime.InferenceSession(path)
    for shape in ((2, 3, 9, 10), (1, 3, 12, 11), (3, 3, 16, 7)):
        x = _input(*shape)
        (result,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        assert_integers_equal(torch.from_numpy(result), model(x).numpy(), torch.float32, str(shape))


def test_strides_under_symbols_are_those_of_the_engine() -> None:
    """A decomposition must not say what strides a result has."""
    layer, stock = accelerate(torch.nn.Conv2d(4, 8, 3)), torch.nn.Conv2d(4, 8, 3)
    example = torch.randn(2, 4, 8, 9).to(memory_format=torch.channels_last)
    ours, theirs = (
        torch.export.export(each, (example,), dynamic_shapes=OPEN, strict=False) for each in (layer, stock)
    )
    (node,) = (node for node in ours.graph.nodes if "outstride" in str(node.target))
    # Not every torch can tell from strides of symbols that they are channels_last.
    (other,) = (node for node in theirs.graph.nodes if "conv2d" in str(node.target))
    assert str(node.meta["val"].stride()) == str(other.meta["val"].stride())
    assert node.meta["val"].stride(1) == 1
    assert layer(example).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("imports", ["import outstride, torch", "import torch, outstride"])
def test_a_program_is_loaded_after_the_package_is_imported(imports: str, tmp_path: Path) -> None:
    model, x = _with_integers(accelerate(_network())), _input(2, 3, 9, 10)
    program = torch.export.export(model, (x,), dynamic_shapes=OPEN, strict=False)
    torch.export.save(program, tmp_path / "program.pt2")
    torch.save((x, model(x)), tmp_path / "call.pt")
    code = f"""
{imports}
import sys
assert "outstride.engine.dispatch.register" not in sys.modules
program = torch.export.load({str(tmp_path / "program.pt2")!r}).module()
x, y = torch.load({str(tmp_path / "call.pt")!r})
assert torch.equal(program(x), y)
assert program(x[..., :7]).shape == (2, 3, 10, 8)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["MaxPool2d", "AvgPool2d"])
def test_pooling_with_open_sizes(kind: str) -> None:
    layer = getattr(nn, kind)(3, 2, padding="same")
    program = torch.export.export(layer, (_input(2, 3, 9, 10),), dynamic_shapes=OPEN).module()
    for shape in ((2, 3, 9, 10), (3, 3, 12, 17), (2, 3, 13, 8)):
        x = _input(*shape)
        assert_integers_equal(program(x), layer(x).numpy(), torch.float32, str(shape))
