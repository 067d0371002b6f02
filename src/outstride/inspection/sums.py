"""Rules for what sums over axes: means, norms, softmax, matrix products, attention, recurrent layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from outstride.inspection.lineage import Lineage, free
from outstride.inspection.moves import without
from outstride.inspection.steps import NotUnderstoodError, Result, Step

WHY = {
    "mean": "takes the mean over all positions",
    "sum": "sums over all positions",
    "softmax": "normalises over all positions (softmax)",
    "layer": "normalises with the statistics of all positions (layer norm)",
    "group": "normalises with the statistics of all positions (group norm)",
    "instance": "normalises with the statistics of all positions (instance norm, or batch norm that trains)",
    "product": "a matrix product over all positions (attention, or a linear layer on the flattened image)",
    "scan": "runs over all positions one after the other",
    "fourier": "a Fourier transform of all positions",
    "order": "puts all positions in order",
    "sampling": "reads the image wherever a grid of places says",
}


def reducing(step: Step, why: str = "sum", dims_at: int = 1, keep_at: int = 2) -> Result:
    """One value for all elements along some axes."""
    source = step.source
    rank = len(source.dims)
    wanted: Any = step.given("dim", dims_at)
    listed: Sequence[int] = range(rank)
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        listed = [wanted]
    elif isinstance(wanted, (list, tuple)) and wanted:
        listed = wanted
    gone = {dim % rank for dim in listed}
    found, covered = source.reduced(gone)
    step.sees_all(covered, WHY[why])
    keep = len(step.shape) == rank or step.given("keepdim", keep_at, False) is True
    return [found if keep else without(found, gone)] * len(step.call.outputs)


def normalising(step: Step, dims: Sequence[int], why: str) -> Result:
    """Every element, changed by all the others along some axes."""
    source = step.source
    summed, covered = source.reduced({dim % len(source.dims) for dim in dims})
    step.sees_all(covered, WHY[why])
    met = step.met([source, summed], step.shape, silent=True)
    return [met, *[None] * (len(step.call.outputs) - 1)]


def softmax(step: Step) -> Result:
    """Softmax and its logarithm."""
    return normalising(step, [step.arg(1)], "softmax")


def scan(step: Step) -> Result:
    """Running sums and products."""
    return normalising(step, [step.arg(1)], "scan")


def layer_norm(step: Step) -> Result:
    """Over the last axes."""
    return normalising(step, range(-len(step.arg(1)), 0), "layer")


def group_norm(step: Step) -> Result:
    """Over groups of channels and all positions."""
    return normalising(step, range(1, len(step.source.dims)), "group")


def batch_norm(step: Step, training_at: int | None) -> Result:
    """Over batch and positions while it trains; afterwards each element by itself."""
    if training_at is not None and not step.arg(training_at):
        return [step.source, *[None] * (len(step.call.outputs) - 1)]
    rank = len(step.source.dims)
    return normalising(step, [dim for dim in range(rank) if dim != 1], "instance")


def product(step: Step, first: int) -> Result:
    """A matrix product (..., m, k) with (..., k, n); what is added to it meets the result."""
    left, right = step.lineage(first), step.lineage(first + 1)
    shape = step.shape
    if left is not None and right is None:
        found, covered = left.reduced([len(left.dims) - 1])
        vector = len(shape) < len(left.dims)
        found = without(found, {len(left.dims) - 1}) if vector else found.put(len(shape) - 1, free(shape[-1]))
    elif right is not None and left is None:
        found, covered = right.reduced([len(right.dims) - 2])
        found = found.put(len(shape) - 2, free(shape[-2]))
    elif left is not None and right is not None:
        found, covered = _both(step, left, right)
    else:
        raise NotUnderstoodError("the image is added to a product of constants")
    step.sees_all(covered, WHY["product"])
    added = step.lineage(0) if first else None
    return found if added is None else step.met([found, added], shape)


def _both(step: Step, left: Lineage, right: Lineage) -> tuple[Lineage, frozenset[int]]:
    rank = len(step.shape)
    if not rank == len(left.dims) == len(right.dims):
        raise NotUnderstoodError("a product of a matrix and a vector that both come from the image")
    rows, covered = left.reduced([rank - 1])
    # Rows and columns of an attention matrix both run along the image: the rows are the ones to follow.
    columns_too = right.axes_of(rank - 1) & left.axes_of(rank - 2)
    cols, also = right.reduced([rank - 2, rank - 1] if columns_too else [rank - 2])
    shape = [*step.shape[:-1], 1] if not cols.axes_of(rank - 1) else list(step.shape)
    rows, cols = rows.put(rank - 1, ()), cols.put(rank - 2, ())
    if not cols.axes_of(rank - 1):
        cols = cols.put(rank - 1, ())
    # Where both are equally fine, the place is that of the values, and not of the weights that they get.
    met = step.met([cols, rows], shape, silent=True)
    return (met.put(rank - 1, free(step.shape[-1])) if shape[-1] == 1 else met), covered | also


def linear(step: Step) -> Result:
    """A linear layer that torch left whole: the last axis is summed."""
    source = step.source
    found, covered = source.reduced([len(source.dims) - 1])
    step.sees_all(covered, WHY["product"])
    return found.put(len(source.dims) - 1, free(step.shape[-1]))


def attention(step: Step) -> Result:
    """Scaled dot-product attention that torch left whole: query, key and value (..., tokens, features)."""
    rows = step.lineage(0)
    rank = len(step.shape)
    # Queries that were learned have no place in the image; what they find there may lie anywhere in it.
    met, covered = [] if rows is None else [rows.reduced([rank - 1])[0]], frozenset[int]()
    for number in (1, 2):
        lineage = step.lineage(number)
        if lineage is not None:
            summed, axes = lineage.reduced([rank - 2, rank - 1])
            covered |= axes
            met.append(summed)
    step.sees_all(covered, WHY["product"])
    found = step.met(met, (*step.shape[:-1], 1), silent=True).put(rank - 1, free(step.shape[-1]))
    return [found, *[None] * (len(step.call.outputs) - 1)]


def fourier(step: Step) -> Result:
    """Frequencies in the place of positions."""
    rank = len(step.source.dims)
    dims = {dim % rank for dim in step.arg(1)}
    found, covered = step.source.reduced(dims)
    step.sees_all(covered, WHY["fourier"])
    return found.with_dims(free(step.shape[n]) if n in dims else atoms for n, atoms in enumerate(found.dims))


def ordering(step: Step) -> Result:
    """Sorting, and the largest few: of the places that they come from nothing is known."""
    dim = step.arg(2 if "topk" in step.call.name else 1, -1) % len(step.source.dims)
    found, covered = step.source.reduced([dim])
    step.sees_all(covered, WHY["order"])
    return [found.put(dim, free(step.shape[dim]))] * len(step.call.outputs)


def sampling(step: Step) -> Result:
    """grid_sample: the grid may be computed from the image, or from nothing."""
    read = [lineage for lineage in map(step.lineage, (0, 1)) if lineage is not None]
    axes = frozenset(axis for lineage in read for axis in lineage.fields)
    axes = axes.union(*(lineage.whole for lineage in read))
    step.sees_all(axes, WHY["sampling"])
    unknown = frozenset[str]().union(*(lineage.unknown for lineage in read))
    return Lineage(tuple(map(free, step.shape)), whole=axes, unknown=unknown)


RULES: dict[str, Callable[[Step], Result]] = {
    "aten.mean": partial(reducing, why="mean"),
    "aten.linalg_vector_norm": partial(reducing, dims_at=2, keep_at=3),
    "aten.norm": partial(reducing, dims_at=2, keep_at=3),
    "aten._softmax": softmax,
    "aten._safe_softmax": softmax,
    "aten._log_softmax": softmax,
    "aten.cumsum": scan,
    "aten.cumprod": scan,
    "aten.native_layer_norm": layer_norm,
    "aten._fused_rms_norm": layer_norm,
    "aten.native_group_norm": group_norm,
    "aten.native_batch_norm": partial(batch_norm, training_at=5),
    "aten._native_batch_norm_legit": partial(batch_norm, training_at=5),
    "aten._native_batch_norm_legit_no_training": lambda step: [
        step.source,
        *[None] * (len(step.call.outputs) - 1),
    ],
    "aten._batch_norm_with_update": partial(batch_norm, training_at=None),
    "aten.mm": partial(product, first=0),
    "aten.bmm": partial(product, first=0),
    "aten.mv": partial(product, first=0),
    "aten.addmm": partial(product, first=1),
    "aten.baddbmm": partial(product, first=1),
    "aten.linear": linear,
    "aten.sort": ordering,
    "aten.topk": ordering,
    "aten.grid_sampler_2d": sampling,
    "aten.grid_sampler_3d": sampling,
}
RULES |= {
    f"aten.{name}": reducing
    for name in (
        *("sum", "amax", "amin", "max", "min", "argmax", "argmin", "prod", "any", "all", "logsumexp"),
        *("var", "std", "var_mean", "std_mean"),
    )
}
RULES |= {
    f"aten._scaled_dot_product_{name}": attention
    for name in (
        *("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention"),
        "fused_attention_overrideable",
    )
}
RULES |= {f"aten._fft_{name}": fourier for name in ("r2c", "c2r", "c2c")}
