"""Stages of contractions: a convolution or its adjoint, with the steps before and behind it.

A linear layer is a convolution along no axis; the steps behind it may see its rows in other sizes.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor
from torch.fx import Node

from outstride.compilation.arguments import Arguments
from outstride.compilation.chains import NOTHING, Chain, chain
from outstride.compilation.frames import Frame, Views, seen
from outstride.compilation.stages import Bound, Reads, Stage
from outstride.compilation.steps import readings
from outstride.compilation.values import Operator, count_of, dtype_of, fixed
from outstride.engine.launch.execute import changes_of, gather_run
from outstride.engine.launch.fused import FusedRun, Step, fused_run, operand_forms
from outstride.engine.launch.launches import At, Launch
from outstride.engine.launch.matrix_product import Operands
from outstride.engine.launch.plans import plan_of
from outstride.engine.launch.steps.check import declined
from outstride.engine.runtime import decline, resolved
from outstride.layer.shortening import AlgorithmName
from outstride.models.operators.reach import Window

OPERATORS: dict[str, Literal["conv", "conv_transpose"]] = {
    "outstride.conv": "conv",
    "outstride.conv_transpose": "conv_transpose",
}
INPUTS = {"conv": "x", "conv_transpose": "y"}
#: What its runs are looked up by: tensors, stride, padding, output size, dilation, groups and algorithm.
_Layer = tuple[
    Literal["conv", "conv_transpose"], Tensor, Tensor,
    tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], int, AlgorithmName,
]  # fmt: skip
_GEOMETRY = ("stride", "padding", "output_size", "dilation", "groups")


def start(node: Node, taken: Container[Node] | None, trained: bool = False) -> Stage:
    """The stage of a contraction; None is `taken` where it is to be by itself.

    A weight that is `trained` is written to between two calls, if its gradient is asked for.
    """
    operator = OPERATORS[Operator.of(node).name]
    own = Operator.of(node).arguments()
    behind = NOTHING if taken is None else chain(node, taken, through_views=not own["stride"])
    source, weight, bias = (own[key] for key in (INPUTS[operator], "w", "bias"))
    before, nodes = tuple[Step, ...](), (node, *behind.nodes)
    if taken is not None and source not in taken and is_read_through(source):
        reading = next(readings(source))
        before, nodes, source = (reading.step,), (source, *nodes), reading.value
    geometry = [fixed(own[key]) for key in _GEOMETRY]
    run = _Contraction(
        operator, [source, weight, bias], [*geometry, own.get("algorithm", "auto")], behind, before, trained
    )
    return Stage(
        nodes, run.inputs, run, operator, behind.reason, weight, len(before), takes_out=True, bind=run.bind,
        formats=run.formats(), rows=run if run.has_rows else None,
    )  # fmt: skip


def is_read_through(node: Any) -> bool:
    """Whether an operator is a step that a contraction, which alone uses it, does to its input."""
    if not isinstance(node, Node) or len(node.users) != 1:
        return False
    (user,) = node.users
    operator = OPERATORS.get(Operator.of(user).name) if user.op == "call_function" else None
    if operator is None or Operator.of(user).argument(INPUTS[operator]) is not node:
        return False
    if sum(argument is node for argument in (*user.args, *user.kwargs.values())) != 1:
        return False  # the weight, too
    reading = next(readings(node), None)
    if reading is None or not reading.step.keeps_zero:
        return False
    return not declined((reading.step,), dtype_of(node), count_of(node))


class _Contraction:
    """Computes a contraction among steps; of one kind of tensors, `bind` has looked up what runs."""

    def __init__(
        self, operator: Literal["conv", "conv_transpose"], tensors: Sequence[Node | None],
        geometry: Sequence[Any], behind: Chain, before: tuple[Step, ...], trained: bool,
    ) -> None:  # fmt: skip
        self._trained = trained
        self._operator, self._steps, self._before = operator, behind.steps, before
        given = (*tensors, *behind.operands)
        views = behind.frame.views
        self._geometry = Arguments((*given, *geometry, [list(view.args[1:]) for view in views]))
        self._count = len(given)
        self.inputs = self._geometry.inputs
        places = [None if node is None else self.inputs.index(node) for node in given]
        x, w, self._bias, *operands = places
        assert x is not None, "a contraction has an input"
        assert w is not None, "a contraction has a weight"
        self._x, self._w = x, w
        self._operands = [place for place in operands if place is not None]
        forms = zip(self._operands, operand_forms(self._steps), strict=True)
        self.source, self.alike = x, tuple(dict.fromkeys(p for p, form in forms if form == "tensor"))
        self._views: list[Any] = [view.target for view in views]
        self._frame = behind.frame
        self._frames = [
            frame
            for reading, frame in zip(behind.readings, behind.frames, strict=True)
            for _ in reading.operands
        ]
        # Where sizes are symbols, elements may fill no vector, and which ones depends on how they lie.
        self._has_ends = any(
            reading.step.has_ends and count_of(reading.value) is None for reading in behind.readings
        )

    def __call__(self, *values: Any, out: Tensor | None = None) -> Tensor:
        """The result, in `out` if there is one."""
        result: Tensor = self.bind(values, out).run(*values, out=out)
        return result

    def formats(self) -> Reads | None:
        """Its tensors of the result's size lie as that does; its input as it likes."""
        if self._views or self._has_ends or decline():
            return None
        return Reads(self.alike, self._x, self._cycles)

    @property
    def has_rows(self) -> bool:
        """Whether it may make a part of its value."""
        return self._operator == "conv" and not (self._views or self._has_ends or self._trained)

    def reach(self, values: Sequence[Any]) -> Window | None:
        """Of which rows of its input a row of its value is made, if it is computed by direct chains."""
        layer, _ = self._layer(values)
        x: Tensor = values[self._x]
        run = None if x.dim() < 4 else fused_run(*layer, self._steps, None, self._before)
        return None if run is None or not run.writes_in_place else _of_rows(layer)

    def launch(self, at: Sequence[At], y: At, first: int, end: int) -> Launch | None:
        """What makes rows [first, end), by one thread."""
        layer, _ = self._layer([each.tensor for each in at])
        operator, x, w, stride, padding, size, dilation, groups, algorithm = layer
        low, high = _of_rows(layer).reads(first, end)
        source = at[self._x].band(max(low, 0), min(high, x.shape[2]))
        paddings, sizes = (max(-low, 0), *padding[1:]), (end - first, *size[1:])
        result = y.band(first, end)
        run = fused_run(
            operator, source.tensor, w, stride, paddings, sizes, dilation, groups, algorithm, self._steps,
            result.tensor, self._before, threads=1,
        )  # fmt: skip
        operands = [
            at[place].band(first, end) if place in self.alike else at[place] for place in self._operands
        ]
        bias = None if self._bias is None else at[self._bias]
        return run.launch(source, at[self._w], bias, operands, result)

    def _layer(self, values: Sequence[Any]) -> tuple[_Layer, list[Any]]:
        """What a run is looked up by, and the arguments of the views behind it."""
        stride, padding, size, dilation, groups, algorithm, views = self._geometry.filled(values)[
            self._count :
        ]
        x, w = values[self._x], values[self._w]
        return (self._operator, x, w, stride, padding, size, dilation, groups, algorithm), views

    def _cycles(self, values: Sequence[Any], x: Tensor, out: Tensor) -> float:
        """What it is predicted to cost with this input and result."""
        stride, padding, _, dilation, groups, algorithm, _ = self._geometry.filled(values)[self._count :]
        geometry = (stride, padding, dilation, groups, 1, resolved(algorithm))
        changes = changes_of(values[self._w], rewritten=self._is_rewritten(values))
        operands = Operands(self._operator, x, values[self._w], out, *geometry, changes)
        return plan_of(operands, 1).predicted_cycles

    def _is_rewritten(self, values: Sequence[Any]) -> bool:
        """Whether the weight is another one in each call."""
        return self._trained and bool(values[self._w].requires_grad)

    def bind(self, values: Sequence[Any], out: Tensor | None) -> Bound:
        """What computes it for values like these."""
        x, w, b, operands = self._x, self._w, self._bias, self._operands
        layer, views = self._layer(values)
        rewritten = self._is_rewritten(values)
        if self._views:
            rows = None if out is None else self._frame.rows_of(out)
            run = fused_run(*layer, self._steps, rows, self._before, rewritten=rewritten)
            return self._on_rows(run, list(zip(self._views, views, strict=True)))
        if not self._steps and not self._before:
            plain = gather_run(*layer, out, rewritten=rewritten)

            def alone(*given: Any, out: Tensor | None = None) -> Tensor:
                return plain(given[x], given[w], None if b is None else given[b], out)

            return Bound(alone, lambda at, y: plain.launch(at[x], at[w], None if b is None else at[b], y))
        run = fused_run(*layer, self._steps, out, self._before, rewritten=rewritten)

        def among(*given: Any, out: Tensor | None = None) -> Tensor:
            bias = None if b is None else given[b]
            return run(given[x], given[w], bias, [given[place] for place in operands], out)

        def launch(at: Sequence[At], y: At) -> Launch | None:
            bias = None if b is None else at[b]
            return run.launch(at[x], at[w], bias, [at[place] for place in operands], y)

        return Bound(among, launch)

    def _on_rows(self, run: FusedRun, views: Views) -> Bound:
        """What computes it where rows of features are seen in other sizes: its tensors are seen as rows."""
        x, w, b, end = self._x, self._w, self._bias, self._frame
        forms = operand_forms(self._steps)
        operands = [
            (place, frame if form == "tensor" else None)
            for place, frame, form in zip(self._operands, self._frames, forms, strict=True)
        ]

        def among(*given: Any, out: Tensor | None = None) -> Tensor:
            tensors = [given[p] if frame is None else frame.rows_of(given[p]) for p, frame in operands]
            bias = None if b is None else given[b]
            rows = None if out is None else end.rows_of(out)
            if out is None or rows is None or rows.data_ptr() != out.data_ptr():
                made = seen(run(given[x], given[w], bias, tensors), views)
                return made if out is None else out.copy_(made)
            run(given[x], given[w], bias, tensors, rows)
            return out

        def launch(at: Sequence[At], y: At) -> Launch | None:
            tensors = [at[p] if frame is None else _rows_at(frame, at[p]) for p, frame in operands]
            rows, given = _rows_at(end, y), [tensor for tensor in tensors if tensor is not None]
            if rows is None or len(given) < len(tensors):
                return None
            found = run.launch(at[x], at[w], None if b is None else at[b], given, rows)
            empty = None if found is None else found.empty
            if found is None or empty is None:
                return found
            return replace(found, empty=lambda: seen(empty(), views))

        return Bound(among, launch)


def _of_rows(layer: _Layer) -> Window:
    """Which rows of a convolution's input a row of its result is made of."""
    _, _, w, stride, padding, _, dilation, _, _ = layer
    return Window(w.shape[2], stride[0], padding[0], dilation[0])


def _rows_at(frame: Frame, at: At) -> At | None:
    """A tensor as rows, in the same memory; None where it does not lie so."""
    rows = frame.rows_of(at.tensor)
    return At(at.place, rows, at.tensor) if rows.data_ptr() == at.tensor.data_ptr() else None
