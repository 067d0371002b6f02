"""What layers are said to take is what the engine takes for them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from outstride.engine.launch.gather import SIZE_CLASSES
from outstride.tiling.box import whole
from outstride.tiling.costs.layers import layer_cost
from outstride.tiling.running import TileRun
from tests.tiling.models_to_tile import Function, image, seeded

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "short": (lambda: nn.Conv2d(16, 24, 3, padding=1), (1, 16, 200, 180)),
    "direct": (lambda: nn.Conv2d(16, 24, 5, 2), (1, 16, 200, 180)),
    "transposed": (lambda: nn.ConvTranspose2d(16, 8, 4, 2, 1), (1, 16, 90, 100)),
    "depthwise": (lambda: nn.Conv2d(16, 16, 7, padding=3, groups=16), (1, 16, 200, 180)),
    "of lines": (lambda: nn.Conv1d(16, 24, 9), (1, 16, 4000)),
    "of volumes": (lambda: nn.Conv3d(8, 8, 3), (1, 8, 30, 40, 50)),
    "of doubles": (lambda: nn.Conv2d(16, 24, 3).double(), (1, 16, 200, 180)),
    "of halves": (lambda: nn.Conv2d(16, 24, 3).bfloat16(), (1, 16, 200, 180)),
    "linear": (lambda: Function(lambda x: nn.functional.linear(x.movedim(1, 3), torch.ones(24, 16))),
               (1, 16, 60, 70)),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_weights_are_packed_as_predicted(name: str) -> None:
    make, shape = LAYERS[name]
    model = seeded(make)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    run = TileRun(model, image(*shape, dtype=dtype), 1000)
    nodes = list(enumerate(run.program.graph.nodes))
    index = next(i for i, node in nodes if i in run.program.rules and layer_cost(node, whole(node.shape)))
    cost = layer_cost(nodes[index][1], whole(nodes[index][1].shape))
    assert cost is not None
    SIZE_CLASSES.clear()
    run(None)
    (served,) = SIZE_CLASSES.entries().values()
    assert served.packer is not None
    packed_bytes = served.packer.elements * served.packer.dtype.itemsize
    assert packed_bytes <= cost.packed_bytes <= 1.4 * packed_bytes  # tiles of several sizes may be used
    assert cost.scratch_bytes >= served.scratch_bytes / 2
    assert cost.cycles > 0


def test_what_is_no_layer_has_no_kernel() -> None:
    run = TileRun(seeded(nn.ReLU), image(1, 3, 20, 30), 1000)
    node = run.node
    assert layer_cost(node, whole(node.shape)) is None
