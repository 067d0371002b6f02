"""ONNX Runtime: a session with its input and output bound once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from outstride.bench.contenders import Form
from outstride.bench.contenders.onnx_graph import exporters, onnx_bytes
from outstride.bench.work import Work


def forms(name: str, work: Work, threads: int) -> Iterator[Form]:
    """One form for each way to the model: it knows no layout but NCHW at its doors, and reorders inside."""
    del name
    ways = exporters(work) if work.case is None else {"bound": partial(onnx_bytes, work)}
    failed: Exception | None = None
    made = 0
    for way, write in ways.items():
        try:
            session = _session(write(), threads)
        except Exception as error:  # noqa: BLE001 - the other way may do; where none does the last is raised
            failed = error
            continue
        made += 1
        yield _form(way, session, work.input)
    if made == 0 and failed is not None:
        raise failed


def _form(way: str, session: Any, x: Tensor) -> Form:
    outputs = tuple(torch.empty(node.shape) for node in session.get_outputs())
    binding = session.io_binding()
    for bind, nodes, tensors in (
        (binding.bind_input, session.get_inputs(), (x,)),
        (binding.bind_output, session.get_outputs(), outputs),
    ):
        for node, tensor in zip(nodes, tensors, strict=True):
            bind(node.name, "cpu", 0, tensor.numpy().dtype.type, list(tensor.shape), tensor.data_ptr())
    return Form(way, partial(session.run_with_iobinding, binding), partial(_kept, outputs, x))


def _kept(outputs: tuple[Tensor, ...], bound: Tensor, _: Any) -> tuple[Tensor, ...]:
    # A session does not own what it is bound to: this keeps its input alive.
    assert bound.numel() >= 0
    return outputs


def any_length(name: str, work: Work, threads: int) -> Callable[[Tensor], Any]:
    """A session with open sizes, fed as its users feed it."""
    del name
    session = _session(onnx_bytes(work, any_length=True), threads)
    return lambda x: session.run(None, {"x": x.numpy()})


def _session(model: bytes, threads: int) -> Any:
    onnxruntime = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
