"""ONNX Runtime: a session with its input and output bound once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from outstride.bench.contenders import Form
from outstride.bench.contenders.onnx_graph import exported, onnx_bytes
from outstride.bench.work import Work


def forms(name: str, work: Work, threads: int) -> Iterator[Form]:
    """One form for each way to the model: it knows no layout but NCHW at its doors, and reorders inside."""
    del name
    ways = [("bound", onnx_bytes(work))] if work.case is not None else exported(work)
    for way, model in ways:
        session = _session(model, threads)
        outputs = [torch.empty(node.shape) for node in session.get_outputs()]
        doors = [(session.get_inputs()[0], work.input)]
        binding = session.io_binding()
        for bind, pairs in (
            (binding.bind_input, doors),
            (binding.bind_output, zip(session.get_outputs(), outputs, strict=True)),
        ):
            for node, tensor in pairs:
                bind(node.name, "cpu", 0, tensor.numpy().dtype.type, list(tensor.shape), tensor.data_ptr())
        yield Form(
            way, partial(session.run_with_iobinding, binding), partial(_kept, tuple(outputs), work.input)
        )


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
