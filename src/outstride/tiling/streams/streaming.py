"""``stream``: a model on an input that arrives in chunks, with exactly the result of the whole.

How long the input will be is not known, so the model is captured for a length that is out of reach: what is
made before its end is seen does not depend on where it lies. Every tensor keeps the end that is still read;
nothing is made twice, but the beginning of a cell of a short algorithm in which a chunk ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from fractions import Fraction
from functools import cached_property
from math import ceil
from typing import Any

import torch
from torch import Tensor

from outstride.errors import ArgumentError, ShapeError
from outstride.layer import arguments as argument
from outstride.models.isolation import undisturbed
from outstride.models.operators import convolution
from outstride.tiling import arrays
from outstride.tiling.evaluation import INPUT
from outstride.tiling.running import check_model, dtype_of
from outstride.tiling.streams.carrying import States
from outstride.tiling.streams.counting import Counting
from outstride.tiling.streams.lengths import Captured, Lengths
from outstride.tiling.streams.playing import played, rehearsed
from outstride.tiling.streams.preparing import MOST_PREPARED, Memory, Prepared
from outstride.tiling.streams.stretches import State, Stretch, Stretches, stretch_of

#: Results that are looked at to find the latency.
_MOST_SCANNED = 4096


class Stream:
    """A model that is fed as its input arrives; made by ``stream``."""

    @undisturbed()
    def __init__(self, model: torch.nn.Module, shape: Sequence[int], dtype: torch.dtype) -> None:
        self._shape, self._dtype = tuple(shape), dtype
        self._lengths = Lengths(model, shape, dtype)
        self._axis = self._lengths.axis
        self.rate = self._lengths.rate
        """Results for each element of the input."""
        self._counting = Counting(self._lengths)
        self._begin()
        self._state, self._states = State(0), States()
        #: What is held of each tensor, and of the input.
        self._held = dict[int, Tensor]()
        self._input = torch.empty((*self._shape[:-1], 0), dtype=dtype)
        #: Elements that have come, and where the last of them lies as positions are counted now.
        self._came = self._last = 0
        self._closed = False

    def _begin(self) -> None:
        """Look for stretches anew, in the length that is captured now."""
        self._stretches = Stretches(self._lengths)
        self._memory = Memory(self._lengths.far, self._lengths.axes)

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
        found = {first: lengths.length_for(first, first + 1) for first in lengths.firsts()}
        found |= lengths.lengths_for(middle, middle + period)
        # One element before a result can be made, those before it have been returned.
        late: Fraction = max(length - 1 - result / self.rate for result, length in found.items())
        return max(ceil(late), 0)

    @undisturbed()
    def prepare(self, length: int) -> None:
        """Make ready for chunks of so many elements from here on, so that none of them waits for it.

        Without it the first few chunks of a size take longer, while it is found that they come again. Of
        chunks that come in many ways, as where a layer takes steps, the first 64 are made ready.

        Args:
            length: elements of each of the chunks that will be pushed.

        Raises:
            ArgumentError: it is not positive.
        """
        if length < 1:
            raise ArgumentError(f"'length' must be at least 1: got {length}; legal: 480")
        state, last, seen = self._state, self._last, set[tuple[Stretch, int]]()
        self._held = {index: tensor.clone() for index, tensor in self._held.items()}
        while 2 * last <= self._lengths.far.length and len(seen) < MOST_PREPARED:
            last += length
            stop = self._counting.complete(state.done, last)
            if stop <= state.done:
                continue
            stretch = self._stretches.to(state, stop)
            if (stretch, last) in seen:
                break
            seen.add((stretch, last))
            if not state.settled:
                rehearsed(self._lengths.far, self._lengths.axes, stretch)
            elif stretch.prepared is None:
                stretch.prepared = self._new(stretch)
                stretch.prepared.rehearse(self._states)
                self._memory.use(stretch)
            state, last = stretch.after, last - stretch.back

    @undisturbed(inference=True)
    def push(self, chunk: Any) -> Tensor:
        """Take the next elements, (N, C, *size) of any length along the last axis; return what they complete.

        Raises:
            ArgumentError: the chunk has another size on another axis.
            RuntimeError: the stream has been closed.
        """
        if self._closed:
            raise ShapeError("'push' must come before 'close': got a chunk after it; legal: another stream")
        arrays.check_source(chunk, "chunk", "")
        shape = tuple(chunk.shape)
        if shape[:-1] != self._shape[:-1]:
            raise ArgumentError(
                f"'chunk' must go on where the last one ended: got shape {shape}; "
                f"legal: {(*self._shape[:-1], 'any')}"
            )
        self._input = torch.cat([self._input, arrays.read_whole(chunk, self._dtype)], -1)
        self._came, self._last = self._came + shape[-1], self._last + shape[-1]
        if self._lengths.beyond(self._last):
            self._begin()
            self._state = replace(self._state, settled=False, onward={})
        stop = self._counting.complete(self._state.done, self._last)
        if stop <= self._state.done:
            return self._nothing(self._lengths.far)
        stretch = self._stretches.to(self._state, stop)
        first, _ = stretch.before.held.get(INPUT, (0, 0))
        gone = stretch.kept[INPUT][0] - first
        rest = self._input.narrow(-1, gone, self._input.shape[-1] - gone)
        result = self._through(self._lengths.far, stretch)
        self._input, self._state, self._last = rest, stretch.after, self._last - stretch.back
        return result

    @undisturbed(inference=True)
    def close(self) -> Tensor:
        """The rest of the results, now that the input has ended.

        Raises:
            ShapeError: the model refuses an input of the length that has come.
        """
        if self._closed:
            raise ShapeError("'close' must be called once: got a second call; legal: another stream")
        lengths, captured = self._lengths, self._lengths.at(self._came)
        self._closed = True
        state = self._state.moved(lengths.growth, self._came - self._last, captured.output)
        stop = captured.nodes[captured.output].shape[self._axis]
        if stop > state.done:
            result = self._through(captured, stretch_of(captured, lengths, state, stop))
        else:
            result = self._nothing(captured)
        self._held.clear()
        return result

    def _nothing(self, captured: Captured) -> Tensor:
        """No result."""
        node = captured.nodes[captured.output]
        return torch.empty((*node.shape[: self._axis], 0, *node.shape[self._axis + 1 :]), dtype=node.dtype)

    def _through(self, captured: Captured, stretch: Stretch) -> Tensor:
        """What a stretch makes; what it keeps is held afterwards."""
        casting = torch.is_autocast_enabled("cpu")  # casts are in the graph
        with torch.autocast("cpu", enabled=False) if casting else nullcontext():
            if stretch.before.settled and self._is_prepared(stretch):
                start, _ = stretch.before.held[INPUT]
                first, last = stretch.need.boxes.get(INPUT, ((start, start),))[-1]
                read = self._input.narrow(-1, first - start, last - first)
                result: Tensor = stretch.prepared(read, self._held)
                self._held = stretch.prepared.after
            else:
                held = dict(self._held) | {INPUT: self._input}
                result, self._held = played(captured, self._lengths.axes, stretch, held, self._states)
        return result

    def _is_prepared(self, stretch: Stretch) -> bool:
        """Whether a stretch is one program; it becomes one when it comes for the second time."""
        threads = torch.get_num_threads()
        if stretch.prepared is None or stretch.prepared.threads != threads:
            stretch.met += 1
            if stretch.met > 1:
                stretch.prepared = self._new(stretch)
        if stretch.prepared is not None:
            self._memory.use(stretch)
        return stretch.prepared is not None

    def _new(self, stretch: Stretch) -> Prepared:
        return Prepared(self._lengths.far, self._lengths.axes, stretch, self._memory, self._states)


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
