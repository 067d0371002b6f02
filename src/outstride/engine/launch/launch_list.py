"""Lists of launches: one call into native code runs them all, and comes back where one needs Python.

Each launch has an argument block of its own, which stays filled in from call to call; what has moved since is
written anew. Before a launch with weights stands one that looks whether they are what was packed. A list may
run in one thread at a time.
"""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Callable, Container, Sequence
from operator import attrgetter, itemgetter
from typing import Any

import torch
from torch import Tensor

from outstride.engine.launch.entries import Entries, list_kernel
from outstride.engine.launch.launches import Kept, Launch, Weight, memory_of
from outstride.engine.launch.parts import Single, Words, part_of
from outstride.engine.launch.weights.packing import PACKED
from outstride.engine.runtime import run_forking, scratch
from outstride.errors import ShapeError

_Reference = weakref.ref[torch.UntypedStorage]
_Layout = tuple[tuple[int, ...], tuple[int, ...]]
_pointer, _count = Tensor.data_ptr, attrgetter("_version")


class LaunchList:
    """Launches one behind the other, for values that are handed over as a list."""

    def __init__(
        self, launches: Sequence[Launch], fixed: Container[int], promised: Container[int] = ()
    ) -> None:
        """Values at `fixed` places are the same tensors in every call; no others are kept.

        Those at `promised` places are a model's own: nobody gives them other memory.
        """
        self._parts = [part_of(launch) for launch in launches]
        self._weights = list[_Weighed]()
        #: Of each entry the number of its launch, and what it looks at if it does not launch that.
        self._of = list[tuple[int, _Weighed | None]]()
        for number, (launch, part) in enumerate(zip(launches, self._parts, strict=True)):
            for weight, parts in part.weights(launch):
                self._weights.append(_Weighed(weight, parts, len(self._of)))
                self._of.append((number, self._weights[-1]))
            self._of.append((number, None))
        most = [launch.workers for launch in launches] + [weighed.threads for weighed in self._weights]
        self._entries = Entries(len(self._of), max(most, default=1))
        for entry, (number, weighed) in enumerate(self._of):
            if weighed is None:
                launch = launches[number]
                self._entries.set(entry, launch, self._parts[number].block, launch.workers)
        self._kernel = list_kernel()
        self._scratch_bytes = max((launch.scratch_bytes for launch in launches), default=0)
        self._scratch = 0
        self._addresses = dict[int, int]()
        self._words = Words()
        #: How what comes from outside lies, by place: launches are for that and nothing else.
        self._layouts = dict[int, _Layout]()
        for launch, part in zip(launches, self._parts, strict=True):
            part.note(launch, self._addresses, self._words)
            self._layouts |= {at.place: _layout(at.value) for at in launch.reads()}
        for launch in launches:
            for single in launch.single():
                self._layouts.pop(single.addresses["y_at"].place, None)
        for word in {word for words in self._words.values() for word in words}:
            word.write(self._addresses)
        #: Places of values that have moved before, such as results, and of the others, such as weights.
        self._restless = list[int]()
        self._steady = [place for place in self._addresses if place not in fixed and place not in promised]
        #: Of the steady ones where they lie, and in what, if it is still there; none before the first call.
        self._read = _reader(self._steady)
        self._pointers = list[int]()
        self._storages = list[_Reference]()
        #: Of the promised ones which objects they are, and what these lie in, as long as all are there.
        self._promised = [place for place in self._addresses if place in promised and place not in fixed]
        self._known = _reader(self._promised)
        self._objects = list[int]()
        self._watched = list[weakref.ref[Tensor]]()
        self._kept = list[torch.UntypedStorage]()
        #: References to what is no longer there.
        self._lost = list[weakref.ref[Any]]()
        #: Reads torch's counts of changes of weights that no entry looks at, which were so when these were
        #: packed. Frozen ones that are inference tensors have none.
        self._unseen = _reader([])
        self._counts = list[int]()
        #: Whether some may be outdated, and when all were looked up last.
        self._is_due = False
        self._promises: object = None

    def __call__(self, values: Sequence[Any], carefully: Callable[[Sequence[Any], int], object]) -> None:
        """Run all launches on the values at their places; `carefully` does one, by number, that did not do.

        Results have their places, too, before the call.
        """
        # While this thread computes, another may give a tensor other memory: these references keep the old.
        storages = [storage() for storage in self._storages]
        if (
            list(map(_pointer, self._read(values))) != self._pointers
            or list(map(id, self._known(values))) != self._objects
            or self._lost
        ):
            storages = self._settle(values)
        storages += [self._found(values[place], place) for place in self._restless]
        storages += self._look_up(values)
        entries, count = self._entries, len(self._of)
        entries.position = 0
        while True:
            self._take_scratch()
            run_forking(self._kernel.alone, entries.address)
            stopped = entries.position
            if stopped == count:
                return
            number, weighed = self._of[stopped]
            if weighed is not None:
                self._drop([weighed])
                storages += self._look_up(values)
            else:
                carefully(values, number)
                self._parts[number].excuse()
            entries.position = stopped + 1

    @property
    def workers(self) -> tuple[int, ...]:
        """The threads that each entry runs on, 0 where there is nothing to look at."""
        return self._entries.workers

    def _settle(self, values: Sequence[Any]) -> list[torch.UntypedStorage | None]:
        """Find out which values have moved, and hold what the others lie in."""
        held, kept = list[torch.UntypedStorage | None](), list[int]()
        weights = {weighed.place for weighed in self._weights}
        lay = dict(zip(self._steady, zip(self._pointers, self._storages, strict=True), strict=False))
        for place in self._steady:
            storage = self._found(values[place], place)
            pointer, before = lay.get(place, (self._addresses[place], lambda there=storage: there))
            has_moved = pointer != self._addresses[place] or before() is not storage
            if has_moved and place in weights:
                self._drop([weighed for weighed in self._weights if weighed.place == place])
            elif has_moved:
                self._restless.append(place)
                continue
            held.append(storage)
            kept.append(place)
        self._steady, self._pointers = kept, [self._addresses[place] for place in kept]
        self._read, self._lost = _reader(kept), []
        lose = self._lost.append  # as long as nothing is in it, nothing has to be looked for
        self._storages = [weakref.ref(storage, lose) for storage in held if storage is not None]
        return [*held, *self._settle_promised(values, weights)]

    def _settle_promised(self, values: Sequence[Any], weights: Container[int]) -> list[torch.UntypedStorage]:
        """Find out where those lie; if one is no longer there, nothing is kept for any."""
        before = dict(zip(self._promised, self._objects, strict=False))
        kept, lost = list[torch.UntypedStorage](), self._lost

        def lose(reference: weakref.ref[Tensor]) -> None:
            lost.append(reference)
            kept.clear()

        for place in self._promised:
            kept.append(self._found(values[place], place))
            if place in weights and before.get(place) != id(values[place]):
                self._drop([weighed for weighed in self._weights if weighed.place == place])
        self._objects = [id(values[place]) for place in self._promised]
        self._watched = [weakref.ref(values[place], lose) for place in self._promised]
        self._kept = kept
        return list(kept)

    def _found(self, tensor: Tensor, place: int) -> torch.UntypedStorage:
        """What a value lies in; its address is written anew if it is another one."""
        storage, pointer = memory_of(tensor)
        if pointer != self._addresses[place]:
            if place in self._layouts and self._layouts[place] != _layout(tensor):
                raise ShapeError(_another(self._layouts[place], tensor))
            self._addresses[place] = pointer
            for word in self._words.get(place, ()):
                word.write(self._addresses)
        return storage

    def _take_scratch(self) -> None:
        """The memory of this thread, which may be another one than last time."""
        if self._scratch_bytes:
            there = scratch(self._scratch_bytes)
            if there != self._scratch:
                self._scratch = there
                for part in self._parts:
                    part.set_scratch(there)

    def _drop(self, weights: Sequence[_Weighed]) -> None:
        """Keep weights no longer: they are packed before the next launch."""
        for weighed in weights:
            weighed.kept = None
        self._is_due = True

    def _look_up(self, values: Sequence[Any]) -> list[torch.UntypedStorage]:
        """Have weights packed that are not kept, or have been written to: seldom is it one alone.

        Returns:
            What these lie in, for entries are going to look at them.
        """
        promises, held = PACKED.promises, list[torch.UntypedStorage]()
        if promises is not self._promises:
            self._promises = promises
            self._drop(self._weights)
        if self._is_due or list(map(_count, self._unseen(values))) != self._counts:
            outdated = [weighed for weighed in self._weights if weighed.is_outdated(values)]
            held += [self._keep(weighed, values) for weighed in outdated]
            counts = {
                weighed.place: weighed.kept.version for weighed in self._weights
                if weighed.kept is not None and weighed.kept.look is None and weighed.kept.version is not None
            }  # fmt: skip
            self._unseen, self._counts = _reader(list(counts)), list(counts.values())
            self._is_due = bool(outdated)  # who is trained is written to again
        return held

    def _keep(self, weighed: _Weighed, values: Sequence[Any]) -> torch.UntypedStorage:
        """Have a weight packed as it is now, and let the entry before its launch look at that."""
        weighed.kept = None  # until all is done, should an interrupt come; what nobody else uses is free
        kept = weighed.keep(values[weighed.place])
        storage = kept.storage()
        if storage is None:
            return self._keep(weighed, values)  # another thread gave it other memory meanwhile
        for part in weighed.parts:
            part.set_weight(kept)
        block, look = None, kept.look
        if look is None:
            self._entries.leave_out(weighed.entry)
        else:
            block = look.block.fresh()
            self._entries.set(weighed.entry, look, block, min(look.workers, weighed.threads))
        weighed.block, weighed.kept = block, kept
        return storage


def _layout(tensor: Tensor) -> _Layout:
    """Its sizes, and the strides of axes along which anybody steps."""
    shape = tuple(tensor.shape)
    return shape, tuple(s for s, size in zip(tensor.stride(), shape, strict=True) if size > 1)


def _another(expected: _Layout, tensor: Tensor) -> str:
    (shape, strides), (given, own) = expected, _layout(tensor)
    return (
        f"this was compiled for a tensor of size {shape} and strides {strides}: got size {given} and strides "
        f"{own}; with 'guard_filter_fn' torch does not look whose weights it has: compile one model with it."
    )


def _reader(places: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """What takes the values at these places out of all."""
    if len(places) < 2:
        return lambda values: [values[place] for place in places]
    return itemgetter(*places)


class _Weighed:
    """A weight of parts of a launch, what is kept of it, and the entry that looks at it."""

    def __init__(self, weight: Weight, parts: Sequence[Single], entry: int) -> None:
        self.place, self.keep, self.threads = weight.at.place, weight.keep, weight.threads
        self.parts, self.entry = parts, entry
        self.kept: Kept | None = None
        self.block: array[int] | None = None

    def is_outdated(self, values: Sequence[Any]) -> bool:
        """Whether it is not kept, or torch has counted a change, or may not have."""
        kept = self.kept
        if kept is None or kept.is_used_once:
            return True
        return kept.version is not None and bool(values[self.place]._version != kept.version)
