"""``convert.to_conv`` against the engine: the same numbers for every case of the table, and in ONNX."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from outstride import nn
from outstride.convert import to_conv
from outstride.errors import ArgumentError
from tests.cases import BY_ID, CASES, Case
from tests.operands import Operands, apply, draw
from tests.tolerance import assert_integers_equal, assert_same_numbers

# An output size is an argument of the call, not of the layer.
_LAYERS = [c for c in CASES if c.output_size is None]


def layer_of(case: Case, operands: Operands, room: Any = nn) -> Any:
    """The case as a layer that holds the drawn weights."""
    options: dict[str, Any] = {"output_padding": case.output_padding} if case.transposed else {}
    layer = getattr(room, f"Conv{'Transpose' if case.transposed else ''}{case.nd}d")(
        case.in_channels, case.out_channels, case.kernel_size, stride=case.stride, padding=case.padding,
        dilation=case.dilation, groups=case.groups, padding_mode=case.padding_mode, bias=case.bias,
        dtype=operands.weight.dtype, **options,
    )  # fmt: skip
    with torch.no_grad():
        layer.weight.copy_(operands.weight)
        if operands.bias is not None:
            layer.bias.copy_(operands.bias)
    return layer


@pytest.mark.parametrize("case", _LAYERS, ids=[c.id for c in _LAYERS])
def test_the_converted_layer_is_the_same_function(case: Case) -> None:
    operands = draw(case, "integers", torch.float32)
    layer = layer_of(case, operands)
    converted = to_conv(layer)
    ours = apply(case, operands.input, operands.weight, operands.bias)
    assert_integers_equal(converted(operands.input), ours.double().numpy(), torch.float32)
    # The ordinary convolution is torch's own, at stride 1 where the layer was transposed.
    assert type(converted.conv) is getattr(torch.nn, f"Conv{case.nd}d")
    assert converted.conv.stride == ((1,) * case.nd if case.transposed else case.stride)
    assert converted.conv.padding == (0,) * case.nd
    if case.batched and case.batch:
        assert_integers_equal(converted(operands.input[0]), ours[0].double().numpy(), torch.float32)


def test_gradients_pass_to_the_input_as_through_the_layer() -> None:
    case = BY_ID["transpose3d-mixed"]
    operands = draw(case, "integers", torch.float64)
    layer = layer_of(case, operands)
    grads = []
    for module in (layer, to_conv(layer)):
        x = operands.input.clone().requires_grad_()
        module(x).backward(operands.grad_output)
        assert x.grad is not None
        grads.append(x.grad)
    assert_integers_equal(grads[1], grads[0].numpy(), torch.float64)


def test_torchs_own_layers_are_taken_too() -> None:
    case = BY_ID["tiny-fsrcnn-x3"]
    operands = draw(case, "integers", torch.float32)
    stock = torch.nn.ConvTranspose2d(7, 1, 9, stride=3, padding=4, output_padding=2)
    stock.load_state_dict({"weight": operands.weight, "bias": operands.bias})
    assert_integers_equal(
        to_conv(stock)(operands.input), stock(operands.input).detach().numpy(), torch.float32
    )


def test_the_weights_are_copies_that_keep_what_they_are() -> None:
    layer = nn.ConvTranspose1d(2, 3, 4, stride=2, dtype=torch.float64).eval()
    layer.weight.requires_grad_(False)
    converted: Any = to_conv(layer)
    assert not converted.training
    assert not converted.conv.weight.requires_grad
    assert converted.conv.bias.requires_grad
    assert converted.conv.weight.dtype == torch.float64
    x = torch.ones(1, 2, 3, dtype=torch.float64)
    before = converted(x)
    with torch.no_grad():
        layer.weight.zero_()
    assert_same_numbers(converted(x), before)


def test_nothing_is_done_that_is_not_needed() -> None:
    def parts(layer: torch.nn.Module) -> list[str]:
        return [name for name, _ in to_conv(layer).named_children()]

    assert parts(nn.ConvTranspose2d(1, 1, 3, padding=2)) == ["conv"]
    assert parts(nn.ConvTranspose2d(1, 1, 3)) == ["border", "conv"]
    assert parts(nn.ConvTranspose2d(1, 1, 3, stride=2)) == ["insert_zeros", "border", "conv"]
    assert parts(nn.Conv2d(1, 1, 3)) == ["conv"]
    circular = nn.ConvTranspose2d(1, 1, 3, padding=1, padding_mode="circular")
    assert parts(circular) == ["border", "conv", "fold", "bias"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # torch's, on exporting
@pytest.mark.parametrize(
    "name",
    [
        "transpose3d-mixed", "transpose2d-same-stride-2", "transpose2d-padding-beyond-kernel",
        "transpose2d-reflect", "transpose2d-replicate", "conv2d-same-stride-3-dilation-2", "conv1d-reflect",
    ],
)  # fmt: skip
def test_it_is_exported_to_onnx(name: str, tmp_path: Path) -> None:
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    operands = draw(BY_ID[name], "integers", torch.float32)
    layer = layer_of(BY_ID[name], operands)
    file = tmp_path / "layer.onnx"
    converted = to_conv(layer).eval()
    torch.onnx.export(converted, (operands.input,), file, dynamo=False, opset_version=17)
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert "ConvTranspose" not in {node.op_type for node in onnx.load(str(file)).graph.node}
    given = {session.get_inputs()[0].name: operands.input.numpy()}
    found = np.asarray(session.run(None, given)[0])
    with torch.no_grad():
        assert_integers_equal(torch.from_numpy(found), layer(operands.input).numpy(), torch.float32)


def test_what_torch_alone_can_hold_needs_nothing_of_ours() -> None:
    """A saved conversion opens where this package is not installed."""
    for layer in (
        nn.ConvTranspose2d(2, 3, 4, stride=2, padding="same"),
        nn.Conv2d(2, 3, 3, padding=[(0, 2), (1, 0)]),
    ):
        assert b"outstride" not in pickle.dumps(to_conv(layer))


def test_what_is_no_convolution_or_not_yet_one_is_refused() -> None:
    with pytest.raises(ArgumentError, match=r"'layer' must be a convolution: got MaxPool2d\(3\)"):
        to_conv(nn.MaxPool2d(3))
    with pytest.raises(ArgumentError, match="'layer' must be a convolution or pooling layer: got Linear"):
        to_conv(torch.nn.Linear(2, 2))
    with pytest.raises(ArgumentError, match="'layer' must know its weights: got LazyConvTranspose2d"):
        to_conv(nn.LazyConvTranspose2d(3, 2))
