"""``stream``: a model on an input that arrives in chunks, with exactly the result of the whole.

How long the input will be is not known, so the model is captured for a length that is out of reach: what is
made before its end is seen does not depend on where it lies. Every tensor keeps the end that later results
still need; nothing is made twice, but the beginning of a cell of a short algorithm in which a chunk ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cached_property
from math import ceil, floor
from typing import Any

import torch
from torch import Tensor

from outstride.errors import ArgumentError, ShapeError
from outstride.layer import arguments as argument
from outstride.models.isolation import undisturbed
from outstride.models.operators import convolution
from outstride.tiling import arrays
from outstride.tiling.box import Box, complete_but, elements, replaced, whole, within
from outstride.tiling.evaluation import INPUT
from outstride.tiling.running import check_model, dtype_of
from outstride.tiling.streams.carrying import States
from outstride.tiling.streams.lengths import Lengths

#: Results that are looked at to find the latency.
_MOST_SCANNED = 4096


class Stream:
    """A model that is fed as its input arrives; made by ``stream``."""

    @undisturbed()
    def __init__(self, model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype) -> None:
        self._shape, self._dtype = tuple(shape), dtype
        self._lengths = Lengths(model, shape, dtype)
        self._captured, self._axis = self._lengths.far, self._lengths.axis
        self.rate = self._lengths.rate
        """Results for each element of the input."""
        self._held: dict[int, tuple[Box, Tensor]] = {}
        self._states = States()
        self._done = self._pushed = 0
        #: Results that the input stands for and that were not complete at the last chunk.
        self._behind = Fraction(0)
        self._closed = False

    @cached_property
    @undisturbed()
    def latency(self) -> int:
        """Elements of the input that have to arrive beyond those that the results stand for.

        After ``t`` elements at least ``(t - latency) * rate`` results have been returned.
        """
        lengths = self._lengths
        period = min(ceil(lengths.period * self.rate), _MOST_SCANNED)
        middle = lengths.far.nodes[lengths.far.output].shape[self._axis] // 2
        # Borders add to what is read a number of elements that is the same for all results, so that the
        # first that meets them is the latest; beyond them, what is read goes on evenly.
        results = (*lengths.firsts(), *range(middle, middle + period))
        # One element before a result can be made, those before it have been returned.
        late: Fraction = max(lengths.length_for(b) - 1 - b / self.rate for b in results)
        return max(ceil(late), 0)

    @undisturbed()
    def push(self, chunk: Any) -> Tensor:
        """Take the next elements, (N, C, *size) of any length along the last axis; return what they complete.

        Raises:
            ArgumentError: the chunk has another size on another axis.
            RuntimeError: the stream has been closed.
        """
        if self._closed:
            raise ShapeError("'push' must come before 'close': got a chunk after it; legal: another stream")
        arrays.check_source(chunk)
        if tuple(chunk.shape[:-1]) != self._shape[:-1] or len(chunk.shape) != len(self._shape):
            raise ArgumentError(
                f"'chunk' must go on where the last one ended: got shape {tuple(chunk.shape)}; "
                f"legal: {(*self._shape[:-1], 'any')}"
            )
        part = arrays.read(chunk, whole(chunk.shape), self._dtype)
        start, self._pushed = self._pushed, self._pushed + part.shape[-1]
        self._append(INPUT, replaced(whole(part.shape), -1, (start, self._pushed)), part.clone())
        self._lengths.beyond(self._pushed)
        self._captured = self._lengths.far
        return self._advance(self._complete())

    @undisturbed()
    def close(self) -> Tensor:
        """The rest of the results, now that the input has ended.

        Raises:
            ShapeError: the model refuses an input of the length that has come.
        """
        if self._closed:
            raise ShapeError("'close' must be called once: got a second call; legal: another stream")
        self._captured, self._closed = self._lengths.at(self._pushed), True
        rest = self._advance(self._captured.nodes[self._captured.output].shape[self._axis])
        self._held.clear()
        return rest

    def _complete(self) -> int:
        """How many results do not depend on whether the input ends here."""
        lengths = self._lengths
        low, high = self._done, lengths.sizes(self._pushed)[self._captured.output]

        def fits(stop: int) -> bool:
            return lengths.fit(self._captured.need(self._done, stop, lengths.axes), self._pushed)

        # As many as the last time for what has come, in all likelihood, and none more.
        usual = floor(self._pushed * self.rate - self._behind)
        likely = [usual, usual + 1]
        while low < high:
            middle = likely.pop(0) if likely else (low + high + 1) // 2
            if not low < middle <= high:
                continue
            if fits(middle):
                low = middle
            else:
                high = middle - 1
        self._behind = self._pushed * self.rate - low
        return low

    def _advance(self, stop: int) -> Tensor:
        """Make the results up to ``stop``, and forget what later ones do not need."""
        captured, start = self._captured, self._done
        shape = captured.nodes[captured.output].shape
        if stop <= start:
            return torch.empty(
                (*shape[: self._axis], 0, *shape[self._axis + 1 :]),
                dtype=captured.nodes[captured.output].dtype,
            )
        box = replaced(whole(shape), self._axis, (start, stop))
        with torch.inference_mode():
            self._make(box)
        held, result = self._held[captured.output]
        result = result[within(box, held)].clone()
        self._done = stop
        self._forget()
        return result

    def _make(self, box: Box) -> None:
        program = self._captured.program
        need = program.need(self._captured.output, box, self._missing)
        for index in sorted(need.parts):
            made = self._made(index, need.boxes[index], need.parts[index])
            self._append(index, need.boxes[index], made)

    def _made(self, index: int, box: Box, parts: Sequence[Box | None]) -> Tensor:
        if index not in self._captured.carried:
            return self._captured.program.make(index, box, parts, self._part)
        node = self._captured.nodes[index]
        sources = [self._part(i, part) for i, part in zip(node.sources, parts, strict=True) if part]
        return self._states.made(index, node, box, sources)

    def _part(self, index: int, box: Box) -> Tensor:
        constant = self._captured.program.graph.constants.get(index)
        if constant is not None:
            return constant[within(box, whole(constant.shape))]
        if elements(box) == 0 and index not in self._held:
            return torch.empty([b - a for a, b in box], dtype=self._captured.nodes[index].dtype)
        held, tensor = self._held[index]
        return tensor[within(box, held)]

    def _missing(self, index: int, box: Box) -> Box:
        """What is not held of a box that is complete on all axes but that of time."""
        axis = self._lengths.axes.get(index)
        box = complete_but(box, self._captured.nodes[index].shape, axis)
        if axis is None:
            return box
        if index in self._captured.carried:  # from step to step, whatever is asked for
            _, last = self._held[index][0][axis] if index in self._held else (0, 0)
            return replaced(box, axis, (last, max(box[axis][1], last)))
        if index not in self._held:
            return box
        (start, stop), (first, last) = box[axis], self._held[index][0][axis]
        # A border that turns round may ask for what lies before: then it is made again as a whole.
        return box if start < first else replaced(box, axis, (max(start, last), stop))

    def _append(self, index: int, box: Box, tensor: Tensor) -> None:
        axis = self._lengths.axes.get(index)
        if axis is not None and index in self._held:
            held, before = self._held[index]
            if held[axis][1] == box[axis][0]:
                tensor = torch.cat([before, tensor], axis)
                box = replaced(box, axis, (held[axis][0], box[axis][1]))
        self._held[index] = (box, tensor)

    def _forget(self) -> None:
        captured = self._captured
        end = captured.nodes[captured.output].shape[self._axis]
        later = captured.need(self._done, end, self._lengths.axes) if self._done < end else {}
        ending = {} if self._closed else self._lengths.ending(self._done, self._pushed)
        waiting = self._waiting()
        for index, (held, tensor) in self._held.items():
            axis = self._lengths.axes.get(index)
            if axis is None:
                continue
            first, last = held[axis]
            start = min(later[index][axis][0] if index in later else last, ending.get(index, last))
            start = min(start, waiting.get(index, last))
            start = min(max(start, first), last)
            kept = replaced(held, axis, (start, last))
            self._held[index] = (kept, tensor[within(kept, held)].clone())

    def _waiting(self) -> dict[int, int]:
        """From where on recurrent layers will read what they go on with."""
        found: dict[int, int] = {}
        for index, rule in self._captured.carried.items():
            node, axis = self._captured.nodes[index], self._lengths.axes[index]
            end = self._held[index][0][axis][1] if index in self._held else 0
            (read, *_) = rule.demand(node, replaced(whole(node.shape), axis, (end, end + 1)))
            assert read is not None
            source = node.sources[0]
            found[source] = min(found.get(source, end), read[axis][0])
        return found


def stream(model: torch.nn.Module, shape: Sequence[int] | None = None) -> Stream:
    """Feed a model chunk by chunk along its last axis and get exactly the result of the whole.

    Args:
        model: any module in inference mode that returns one tensor, causal or not, strided, transposed,
            padded.
        shape: shape of a chunk, (N, C, *size), whatever its length; by default (1, in_channels, length) of
            the model's first one-dimensional convolution.

    Returns:
        A ``Stream``: ``push(chunk)`` returns what has become complete, ``close()`` the rest, ``latency`` is
        known before anything is pushed.

    Raises:
        ArgumentError: no shape is given and the model has no one-dimensional convolution.
        UnsupportedError: a result needs the whole input, as after a pooling over all of it, or its end first,
            or the model goes from element to element, as recurrent layers do.

    Law: the results in a row have the bits of ``accelerate(model)(whole)``, wherever the chunks end. How the
    whole would be shared among threads is known at its end alone, so functions that torch computes by two
    routines, as gelu, take that of vectors before.

    Example:
        >>> model = torch.nn.Conv1d(1, 1, 5, padding=2)
        >>> live = stream(model)
        >>> got = [live.push(torch.zeros(1, 1, 4)) for _ in range(3)] + [live.close()]
        >>> live.latency, [part.shape[-1] for part in got]
        (2, [2, 4, 4, 2])
    """
    check_model(model)
    if shape is None:
        layers = (convolution.CONVOLUTIONS[0], convolution.TRANSPOSED[0])
        first: Any = next((layer for layer in model.modules() if isinstance(layer, layers)), None)
        if first is None:
            raise ArgumentError(
                "'shape' must say what a chunk looks like where no layer is a one-dimensional convolution: "
                "got None; legal: (1, 3, 64, 0), whatever the length"
            )
        shape = (1, first.in_channels, 0)
    sizes = argument.shape("shape", shape, 0)
    if len(sizes) < 2:
        raise ArgumentError(f"'shape' must have channels and a length: got {sizes}; legal: (1, 80, 0)")
    return Stream(model, sizes, dtype_of(model, None))
