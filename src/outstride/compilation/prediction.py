"""How long stages take, by the cost model that plans are chosen with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node

from outstride.compilation.contractions import INPUTS, OPERATORS
from outstride.compilation.stages import Stage
from outstride.compilation.values import Operator
from outstride.engine.launch.matrix_product import Operands
from outstride.engine.launch.plans import plan_of
from outstride.engine.runtime import decline, machine, resolved
from outstride.engine.runtime.host import clock


def predicted_ms(stage: Stage) -> float | None:
    """What a stage takes: its plan's cycles, or moving what it reads and makes once.

    None where sizes are symbols, of gradients of weights, where the system states no clock rate, and where no
    kernel runs.
    """
    stated = None if decline() else clock()
    values = [node.meta.get("val") for node in (*stage.inputs, stage.output)]
    tensors = [value for value in values if isinstance(value, Tensor)]
    if (
        stage.label == "conv_weight"
        or stated is None
        or not all(isinstance(n, int) for t in tensors for n in t.shape)
    ):
        return None
    if stage.label in ("conv", "conv_transpose") and all(tensor.numel() for tensor in tensors):
        cycles = _contraction_cycles(stage.head)
    else:
        moved = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        cycles = moved / (machine().costs.memory_bytes_per_cycle * torch.get_num_threads())
    return cycles / stated[0] * 1e3


def _contraction_cycles(node: Node) -> float:
    operator = Operator.of(node)
    name, own = OPERATORS[operator.name], operator.arguments()
    x, w = (_like(own[key]) for key in (INPUTS[name], "w"))
    stride, padding, dilation = (tuple(own[key]) for key in ("stride", "padding", "dilation"))
    algorithm = resolved(own.get("algorithm", "auto"))
    operands = Operands(name, x, w, _like(node), stride, padding, dilation, own["groups"], 1, algorithm)
    return plan_of(operands, torch.get_num_threads()).predicted_cycles


def _like(node: Node) -> Tensor:
    value = node.meta["val"]
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
