"""OpenVINO: a request with its input and output bound once, computing in float32."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from outstride.bench.contenders import Form
from outstride.bench.contenders.onnx_graph import onnx_bytes
from outstride.bench.work import Work
from outstride.errors import UnsupportedError

LAYOUTS = {4: ("NCHW", "NHWC"), 5: ("NCDHW", "NDHWC")}


def forms(name: str, work: Work, threads: int) -> Iterator[Form]:
    """The graph with contiguous doors and, for layers in two and three dimensions, with the channels last."""
    del name
    if work.training or work.dtype != torch.float32:
        raise UnsupportedError("OpenVINO is timed in float32, inference")
    if work.case is not None and work.input.dim() in LAYOUTS:
        yield _form("NHWC", _graph(work), work.input, threads, LAYOUTS[work.input.dim()])
    yield _form("NCHW", _graph(work), work.input, threads, None)


def any_length(name: str, work: Work, threads: int) -> Callable[[Tensor], Any]:
    """A model with open sizes, fed as its users feed it."""
    del name
    graph = _openvino().Core().read_model(onnx_bytes(work, any_length=True))
    request = _compiled(graph, threads).create_infer_request()
    return lambda x: request.infer([x.numpy()], share_inputs=True, share_outputs=True)[0]


def _openvino() -> Any:
    # Unless it believes to run in continuous integration, importing it reports the import to its maker.
    os.environ.setdefault("CI", "true")
    return import_module("openvino")


def _graph(work: Work) -> Any:
    """The model at its sizes; a layer comes as ONNX, for tracing one with a large kernel takes a minute."""
    if work.case is not None:
        return _openvino().Core().read_model(onnx_bytes(work))
    if work.is_program:
        graph = _openvino().convert_model(work.program())
    else:
        graph = _openvino().convert_model(work.module, example_input=work.input)
    graph.reshape(list(work.input.shape))
    return graph


def _compiled(graph: Any, threads: int) -> Any:
    # Left to itself it may compute in bfloat16, which would be another result, not a faster one.
    options = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    return _openvino().compile_model(graph, "CPU", options)


def _form(name: str, graph: Any, x: Tensor, threads: int, layouts: tuple[str, str] | None) -> Form:
    openvino = _openvino()
    if layouts is not None:
        doors = import_module("openvino.preprocess").PrePostProcessor(graph)
        first, last = (openvino.Layout(layout) for layout in layouts)
        for door in (doors.input(), doors.output()):
            door.model().set_layout(first)
            door.tensor().set_layout(last)
        graph, x = doors.build(), x.movedim(1, -1).contiguous()
    compiled = _compiled(graph, threads)
    outputs = [torch.empty(tuple(port.shape)) for port in compiled.outputs]
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x.numpy(), shared_memory=True))
    for number, output in enumerate(outputs):
        request.set_output_tensor(number, openvino.Tensor(output.numpy(), shared_memory=True))
    results = tuple(output if layouts is None else output.movedim(-1, 1) for output in outputs)

    def read(_: Any, bound: Tensor = x) -> tuple[Tensor, ...]:
        # The request does not own what it is bound to: this form keeps the input alive.
        assert bound.numel() >= 0
        return results

    return Form(name, request.infer, read)
