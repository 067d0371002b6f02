"""Recordings (``torch.jit.trace``, and torch's older ONNX exporter that stands on it) fit every size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from outstride import functional, nn
from outstride.errors import OutstrideError
from tests.tolerance import assert_integers_equal

MODES = ("reflect", "replicate", "circular")
CONV: list[dict[str, Any]] = [
    {"stride": 2, "padding": "same"},
    {"kernel_size": 5, "stride": 3, "padding": "same", "dilation": 2},
    {"kernel_size": 1, "stride": 2, "padding": "same"},
    {"kernel_size": 4, "padding": "same"},
    {"stride": 2, "padding": "low"},
    *({"padding": 2, "padding_mode": mode} for mode in MODES),
    *({"padding": "low", "padding_mode": mode} for mode in MODES),
    *({"kernel_size": 5, "stride": 2, "padding": "same", "padding_mode": mode} for mode in MODES),
]
TRANSPOSED: list[dict[str, Any]] = [
    {"stride": 2, "padding": "same"},
    {"kernel_size": 2, "stride": 3, "padding": "same"},
    {"kernel_size": 5, "stride": 2, "padding": "low"},
    {"stride": 2, "padding": "low", "output_padding": 1},
    {"stride": 2, "padding": 1, "output_padding": 1},
    *({"kernel_size": 5, "stride": 2, "padding": 2, "padding_mode": mode} for mode in MODES),
    *({"kernel_size": 5, "stride": 2, "padding": "same", "padding_mode": mode} for mode in MODES),
]


def _arguments(options: dict[str, Any], nd: int) -> dict[str, Any]:
    padding = ((1, 2),) * nd if options["padding"] == "low" else options["padding"]
    return {"kernel_size": 3, **options, "padding": padding}


def _input(size: int, nd: int, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(size)
    return torch.randint(-4, 5, (2, channels, *range(size, size + nd)), generator=generator).float()


def _with_integers(layer: Any) -> Any:
    """The layer with weights whose sums no order of adding rounds."""
    generator = torch.Generator().manual_seed(0)
    for tensor in layer.parameters():
        tensor.data = torch.randint(-4, 5, tensor.shape, generator=generator).float()
    return layer.eval().requires_grad_(False)


def _assert_same(result: Tensor, expected: Tensor) -> None:
    assert_integers_equal(result, expected.numpy(), expected.dtype, f"result of {tuple(expected.shape)}")


def _assert_follows(module: Callable[..., Any], inputs: list[Tensor]) -> None:
    with torch.no_grad():
        trace: Any = torch.jit.trace
        recorded = trace(module, inputs[0], check_trace=False)
        for x in inputs:
            _assert_same(recorded(x), module(x))


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning")
@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
@pytest.mark.parametrize("nd", [1, 2, 3])
@pytest.mark.parametrize(
    ("transposed", "options"), [*((False, o) for o in CONV), *((True, o) for o in TRANSPOSED)], ids=str
)
def test_sizes_follow_in_every_layer(
    transposed: bool, options: dict[str, Any], nd: int, batched: bool
) -> None:
    name = f"Conv{'Transpose' if transposed else ''}{nd}d"
    layer = _with_integers(getattr(nn, name)(3, 4, **_arguments(options, nd)))
    inputs = [_input(size, nd) for size in (9, 10, 13, 16)]
    _assert_follows(layer, inputs if batched else [x[0] for x in inputs])


@pytest.mark.parametrize("padding", ["same", 1, ((1, 1), (0, 2))])
@pytest.mark.parametrize("whole", [True, False], ids=["shape", "size"])
def test_an_output_size_that_is_itself_a_size_follows(padding: Any, whole: bool) -> None:
    down = _with_integers(torch.nn.Conv2d(3, 4, 3, 2, 1))
    up = _with_integers(nn.ConvTranspose2d(4, 3, 3, 2, padding))

    def there_and_back(x: Tensor) -> Tensor:
        result: Tensor = up(down(x), output_size=x.shape if whole else x.shape[2:])
        return result

    _assert_follows(there_and_back, [_input(9, 2), _input(9, 2).mT.contiguous(), _input(16, 2)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int64, torch.complex64], ids=str)
@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_functions_in_other_dtypes(dtype: torch.dtype, mode: str) -> None:
    w = torch.ones(4, 3, 3, 3, dtype=dtype)

    def function(x: Tensor) -> Tensor:
        result = functional.conv2d(x, w, stride=2, padding="same", padding_mode=mode)
        return result.to(torch.complex64).real.contiguous()

    _assert_follows(function, [torch.ones(1, 3, size, size + 1, dtype=dtype) for size in (9, 10, 13)])


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning")
@pytest.mark.parametrize("nd", [1, 2, 3])
@pytest.mark.parametrize("stride", [None, 1, 2])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_sizes_follow_in_pooling(kind: str, nd: int, stride: int | None) -> None:
    pool = getattr(nn, f"{kind.capitalize()}Pool{nd}d")
    inputs = [_input(size, nd) for size in (9, 10, 13)]
    _assert_follows(pool(3, stride, padding="same"), inputs)
    _assert_follows(pool(3, stride, padding=((1, 0),) * nd), inputs)
    if kind == "max":
        places = getattr(functional, f"max_pool{nd}d")
        _assert_follows(lambda x: places(x, 3, stride, "same", return_indices=True)[1].float(), inputs)


def test_what_no_recording_can_follow_is_refused() -> None:
    trace: Any = torch.jit.trace
    up = nn.ConvTranspose1d(3, 4, 5, stride=2, padding="same", padding_mode="circular")
    with pytest.raises(OutstrideError, match=r"'output_size' must not be given .* legal: the padding in"):
        trace(lambda x: up(x, output_size=(17,)), _input(9, 1))
    with pytest.raises(OutstrideError, match=r"'ceil_mode' must be False .* legal: ceil_mode=False"):
        trace(nn.MaxPool1d(3, 2, padding=((1, 0),), ceil_mode=True), _input(9, 1))


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, stride=2, padding="same"),
        nn.Conv2d(3, 4, 3, padding=((1, 2), (0, 1)), padding_mode="reflect"),
        nn.ConvTranspose2d(3, 4, 3, stride=2, padding="same"),
        nn.ConvTranspose2d(3, 4, 3, stride=2, padding=((1, 0), (0, 2)), output_padding=1),
        nn.ConvTranspose2d(3, 4, 5, stride=2, padding=1, padding_mode="circular"),
    ],
    ids=repr,
)
def test_the_older_onnx_exporter_follows_too(layer: torch.nn.Module, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "layer.onnx"
    axes = {"x": {0: "n", 2: "h", 3: "w"}}
    export: Any = torch.onnx.export
    _with_integers(layer)
    export(layer, (_input(9, 2),), path, input_names=["x"], dynamic_axes=axes, dynamo=False)
    session = onnxruntime.InferenceSession(path)
    for size in (9, 10, 14):
        x = _input(size, 2)
        (result,) = session.run(None, {"x": x.numpy()})
        with torch.no_grad():
            _assert_same(torch.from_numpy(result), layer(x))
