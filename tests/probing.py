"""What a model's outputs really read, measured two ways that know nothing of layers: gradients and NaN."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from outstride.inspection.field import Field

Interval = tuple[int, int]


def positive(model: nn.Module) -> nn.Module:
    """The model in float64 with positive weights, so that no two paths cancel and no ReLU closes."""
    model = model.double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator, dtype=torch.float64) + 0.5)
    return model


def read_by_nan(model: nn.Module, shape: Sequence[int], axis: int) -> list[Interval | None]:
    """For every output position along an axis the first and last input position whose NaN arrives there.

    Every input position has an image of its own in the batch, so that one run measures all of them.
    """
    size = shape[axis]
    x = torch.ones((size, *shape[1:]), dtype=torch.float64)
    for position in range(size):
        x[position].select(axis - 1, position).fill_(torch.nan)
    with torch.no_grad():
        out = first(model(x))
    others = [dim for dim in range(1, out.dim()) if dim != axis]
    return hulls(out.isnan().any(dim=others) if others else out.isnan())


def read_by_gradient(model: nn.Module, shape: Sequence[int], axis: int) -> list[Interval | None]:
    """For every output position along an axis the first and last input position that has a gradient."""
    x = torch.rand(tuple(shape), generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 0.5
    x.requires_grad_()
    out = first(model(x))
    others = [dim for dim in range(out.dim()) if dim != axis]
    summed = out.sum(dim=others)
    rows = torch.eye(len(summed), dtype=torch.float64)
    if not summed.requires_grad:
        return [None] * len(summed)
    (jacobian,) = torch.autograd.grad(summed, x, rows, is_grads_batched=True)
    kept = [dim for dim in range(1, jacobian.dim()) if dim != axis + 1]
    return hulls((jacobian != 0).any(dim=kept).T)


def first(result: object) -> Tensor:
    """The first tensor that a model returns."""
    found = result if isinstance(result, Tensor) else next(iter(result))  # type: ignore[call-overload]
    assert isinstance(found, Tensor)
    return found


def hulls(reads: Tensor) -> list[Interval | None]:
    """From (inputs, outputs) truth values to an interval for every output."""
    found: list[Interval | None] = []
    for column in reads.T:
        places = column.nonzero().flatten().tolist()
        found.append((places[0], places[-1]) if places else None)
    return found


def assert_reads(
    field: Field, measured: Sequence[Interval | None], size: int, margin: int = 0, folds: bool = False
) -> int:
    """Nothing is read outside of the declared interval, and all of it where it lies inside the image.

    ``margin`` keeps away from borders inside the model that lie further in than the image's, after a crop;
    with ``folds`` the border is mirrored, and what lies beyond it stands for pixels inside.

    Returns:
        How many outputs had their interval inside the image, so that a caller can see that it was tested.
    """
    inside = 0
    for position, found in enumerate(measured):
        declared = field.at(position)
        if declared is None:
            assert found is None, (position, found)
            continue
        if found is not None and not folds:
            assert declared[0] <= found[0], (position, declared, found)
            assert found[1] <= declared[1], (position, declared, found)
        if margin <= declared[0] and declared[1] < size - margin:
            assert found == declared, (position, declared, found)
            inside += 1
    return inside
