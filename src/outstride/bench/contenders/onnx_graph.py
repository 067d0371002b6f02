"""One layer, or a whole model, as an ONNX model, for the libraries that read those."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from outstride.bench.work import Work
from outstride.errors import UnsupportedError


def onnx_bytes(work: Work, any_length: bool = False) -> bytes:
    """The layer with its weights as constants; `any_length` leaves the spatial sizes open."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    case = work.case
    if case is None or work.training or work.dtype != torch.float32:
        raise UnsupportedError("ONNX models are made of single layers, float32, inference")
    attributes: dict[str, Any] = {
        "kernel_shape": case.kernel_size,
        "strides": case.stride,
        "pads": case.padding * 2,
        "dilations": case.dilation,
        "group": case.groups,
    }
    if case.transposed:
        attributes["output_padding"] = case.output_padding
    names = {"weight": "w", "bias": "b"}
    weights = {names[name]: value.detach() for name, value in work.module.named_parameters()}
    shapes: dict[str, list[Any]] = {
        "x": [case.batch, case.in_channels, *case.input_size],
        "y": [case.batch, case.out_channels, *case.output_size],
    }
    if any_length:
        shapes = {
            name: [*sizes[:2], *(f"{name}{i}" for i in range(case.nd))] for name, sizes in shapes.items()
        }
    operator = "ConvTranspose" if case.transposed else "Conv"
    node = helper.make_node(operator, ["x", *weights], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes["x"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes["y"])],
        [numpy_helper.from_array(value.contiguous().numpy(), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return cast(bytes, model.SerializeToString())


def exporters(work: Work) -> dict[str, Callable[[], bytes]]:
    """Torch's two ways to an ONNX model of a whole model, of which neither is always the faster one."""
    if work.training or work.dtype != torch.float32:
        raise UnsupportedError("ONNX models are made in float32, inference")
    return {"traced": lambda: _quiet(_by_tracing, work), "exported": lambda: _quiet(_by_export, work)}


def _quiet(write: Callable[[nn.Module, Tensor], bytes], work: Work) -> bytes:
    with _quietly():
        return write(work.module, work.input)


def _by_tracing(module: nn.Module, x: Tensor) -> bytes:
    file = io.BytesIO()
    torch.onnx.export(module, (x,), cast(Any, file), dynamo=False, opset_version=17)
    return file.getvalue()


def _by_export(module: nn.Module, x: Tensor) -> bytes:
    program = torch.onnx.export(module, (x,), dynamo=True, verbose=False)
    assert program is not None
    return cast(bytes, program.model_proto.SerializeToString())


@contextmanager
def _quietly() -> Iterator[None]:
    """Exporters warn at length of what is no concern here."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
