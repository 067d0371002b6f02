"""The libraries that compete: each turns a piece of work into a call that can be timed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, cast

import torch
from torch import Tensor, nn

from outstride.bench.work import Work
from outstride.errors import UnsupportedError

Call = Callable[[], Tensor]


def outstride_call(work: Work, threads: int) -> Call:
    from outstride import accelerate

    del threads
    return _torch_call(accelerate(work.module), work)


def torch_call(work: Work, threads: int) -> Call:
    del threads
    return _torch_call(work.module, work)


def _torch_call(module: nn.Module, work: Work) -> Call:
    if not work.training:

        def infer() -> Tensor:
            with torch.inference_mode():
                return cast(Tensor, module(work.input))

        return infer
    x = work.input.detach().clone().requires_grad_()
    with torch.no_grad():
        grad_output = torch.randn_like(module(x))

    def step() -> Tensor:
        module.zero_grad(set_to_none=True)
        x.grad = None
        output = cast(Tensor, module(x))
        output.backward(grad_output)
        return output.detach()

    return step


def onnxruntime_call(work: Work, threads: int) -> Call:
    onnxruntime = import_module("onnxruntime")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(_onnx_bytes(work), options, providers=["CPUExecutionProvider"])
    feed = {"x": work.input.numpy()}
    return lambda: torch.from_numpy(session.run(None, feed)[0])


def _onnx_bytes(work: Work) -> bytes:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    case = work.case
    if case is None or work.training or work.dtype != torch.float32:
        raise UnsupportedError("onnxruntime is timed on single layers, float32, inference")
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
    output_shape = [case.batch, case.out_channels, *case.output_size]
    operator = "ConvTranspose" if case.transposed else "Conv"
    node = helper.make_node(operator, ["x", *weights], ["y"], **attributes)
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(work.input.shape))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(value.numpy(), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return cast(bytes, model.SerializeToString())


def openvino_call(work: Work, threads: int) -> Call:
    openvino = import_module("openvino")

    if work.training or work.dtype != torch.float32:
        raise UnsupportedError("openvino is timed in float32, inference")
    # Left to itself it may compute in bfloat16, which would be another result, not a faster one.
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    graph = openvino.convert_model(work.module, example_input=work.input)
    graph.reshape(list(work.input.shape))
    request = openvino.compile_model(graph, "CPU", options).create_infer_request()
    feed = work.input.numpy()
    return lambda: torch.from_numpy(request.infer([feed], share_inputs=True, share_outputs=True)[0])


CONTENDERS: dict[str, Callable[[Work, int], Call]] = {
    "outstride": outstride_call,
    "torch": torch_call,
    "onnxruntime": onnxruntime_call,
    "openvino": openvino_call,
}
