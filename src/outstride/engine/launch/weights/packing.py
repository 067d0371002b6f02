"""Packed weights: kept as long as the memory that they were packed from, used while it holds the same.

The law: after any write to a weight, by whatever means, the next call uses it, and a call beside the write
uses the one or the other. So what is kept belongs to memory and not to a tensor; what the memory holds is
looked at in every call (`launch/weights/snapshots.py`), and before it is packed, so that a write in between
is seen by the next; and packed weights that a call may be reading are never written to.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from outstride.engine.launch import call_cache
from outstride.engine.launch.launches import Kept, Launch
from outstride.engine.launch.weights.packer import Packed, Packer
from outstride.engine.launch.weights.snapshots import Snapshot, take_snapshot
from outstride.engine.runtime import release_file

#: Forms of a weight that are kept, those packed last: a head that looks at five scales and is trained has
#: seven or so, and every form takes as much memory as the weight.
_MOST_FORMS = 8


class _Entry(NamedTuple):
    """Packed weights, and of what: the version (an inference tensor has none), the contents, the storage."""

    packed: Packed
    version: int | None
    snapshot: Snapshot
    storage: weakref.ref[torch.UntypedStorage]

    @property
    def pointer(self) -> int:
        """Where the packed weight is."""
        return self.packed.pointer

    @property
    def finite(self) -> bool:
        """Whether all of it is."""
        return self.packed.finite

    @property
    def look(self) -> Launch | None:
        """What flags a change of the weight."""
        return self.snapshot.look

    @property
    def is_used_once(self) -> bool:
        """Whether it is to be packed anew for its next use, changed or not."""
        return isinstance(self.snapshot, _None)


class _Memory:
    """A storage that weights lie in."""

    def __init__(self, storage: weakref.ref[torch.UntypedStorage]) -> None:
        self.storage = storage
        #: Where the forms of a weight are kept, by the weight's offset in bytes and the form.
        self.names: dict[tuple[int, str], tuple[int, str]] = {}
        #: Offsets of weights whose owner has promised not to change them.
        self.frozen: set[int] = set()


class _Frozen:
    """The snapshot of a frozen weight: nobody looks."""

    look: Launch | None = None
    was_asked = False

    def is_current(self, _: int) -> bool:
        return True


class _None:
    """The lack of a snapshot, of a weight that is trained: by its next use it is another one."""

    look: Launch | None = None
    was_asked = False

    def is_current(self, _: int) -> bool:
        self.was_asked = True
        return False


#: What `sys.getrefcount` says of a value that one variable or attribute refers to. Nothing is reused where it
#: says other numbers (Python 3.14 borrows from variables) or may change meanwhile (no interpreter lock).
_COUNTS = sys.version_info < (3, 14) and getattr(sys, "_is_gil_enabled", lambda: True)()
_ALONE = 2 if _COUNTS else -1


class PackedWeights:
    """The packed forms of weights, each kept by the weight's address and the form."""

    name = "packed weights"

    def __init__(self) -> None:
        self._entries: dict[tuple[int, str], _Entry] = {}
        self._memories: dict[int, _Memory] = {}
        #: Another object whenever who keeps an entry has to ask for it again.
        self.promises = object()

    def get(self, weight: Tensor, packer: Packer, threads: int) -> Packed:
        """The packed weight, made anew if the weight has changed."""
        entry = self._entries.get((weight.data_ptr(), packer.key))
        if entry is not None:
            # While this thread looks, another may give the weight other memory: this reference keeps the old.
            storage = entry.storage()
            if (
                storage is not None
                and entry.version == _version(weight)
                and entry.snapshot.is_current(threads)
            ):
                return entry.packed
            del storage
        del entry  # so that what nobody else uses is seen to be free
        return self._renew(weight, packer, threads)

    def entry(self, weight: Tensor, packer: Packer, threads: int) -> Kept:
        """The same with what finds out whether it is still current, for those who look themselves."""
        while True:
            packed = self.get(weight, packer, threads)
            entry = self._entries.get((weight.data_ptr(), packer.key))
            if entry is not None and entry.packed is packed:
                return entry  # else another thread packed it anew

    def __len__(self) -> int:
        return len(self._entries)

    def clear(self) -> None:
        """Drop all packed weights; a call that reads some keeps them until it ends, and promises stay."""
        self._entries.clear()
        self.promises = object()

    def forms(self, weight: Tensor) -> list[tuple[int, str]]:
        """Under what the packed forms of a weight are kept: its address and the form."""
        storage = weight.untyped_storage()
        names, offset = self._memory(storage).names, weight.data_ptr() - storage.data_ptr()
        return [name for (at, _), name in names.items() if at == offset and name in self._entries]

    def drop(self, forms: Iterable[tuple[int, str]]) -> None:
        """Keep some forms no longer; whoever holds one goes on with it."""
        for name in forms:
            self._entries.pop(name, None)

    def freeze(self, weight: Tensor) -> None:
        """Take its owner's word that a weight does not change, so that calls do not look."""
        storage = weight.untyped_storage()
        self._memory(storage).frozen.add(weight.data_ptr() - storage.data_ptr())
        self._forget(weight)

    def thaw(self, weight: Tensor) -> None:
        """Look again at every call."""
        storage = weight.untyped_storage()
        self._memory(storage).frozen.discard(weight.data_ptr() - storage.data_ptr())
        self._forget(weight)

    def is_frozen(self, weight: Tensor) -> bool:
        """Whether its owner has promised not to change it."""
        storage = weight.untyped_storage()
        memory = self._memories.get(id(storage))
        if memory is None or memory.storage() is not storage:
            return False
        return weight.data_ptr() - storage.data_ptr() in memory.frozen

    def _forget(self, weight: Tensor) -> None:
        self.drop(self.forms(weight))
        self.promises = object()

    def _renew(self, weight: Tensor, packer: Packer, threads: int) -> Packed:
        storage, pointer, version = weight.untyped_storage(), weight.data_ptr(), _version(weight)
        offset = pointer - storage.data_ptr()
        if not 0 <= offset < storage.nbytes():
            return self._renew(weight, packer, threads)  # another thread gave it other memory between the two
        memory, name = self._memory(storage), (pointer, packer.key)
        frozen = offset in memory.frozen
        old = self._entries.pop(name, None)  # no other call finds it from here on
        buffer = None
        if old is not None:
            if frozen and old.version != version:
                warnings.warn(_BROKEN_PROMISE, stacklevel=2)
            if sys.getrefcount(old) == _ALONE == sys.getrefcount(old.packed):
                buffer = old.packed.values
        # Who writes to a weight between any two uses will do so before the next, too.
        is_trained = old is not None and old.version != version and not old.snapshot.was_asked
        if frozen or is_trained:
            snapshot: Snapshot = _Frozen() if frozen else _None()
        else:
            snapshot = take_snapshot(weight, pointer, threads)
            snapshot.was_asked = old is not None and old.is_used_once
        packed = packer.pack(pointer, threads, buffer)
        if frozen:  # it is read again where results are not finite or sizes are others
            release_file(pointer, weight.nbytes)
        before = memory.names.pop((offset, packer.key), None)
        if before is not None and before != name:  # the storage has moved
            self._entries.pop(before, None)
        forms = [place for place in memory.names if place[0] == offset]
        for place in forms[: max(0, len(forms) + 1 - _MOST_FORMS)]:
            self._entries.pop(memory.names.pop(place), None)
        memory.names[offset, packer.key] = name
        self._entries[name] = _Entry(packed, version, snapshot, memory.storage)
        return packed

    def _memory(self, storage: torch.UntypedStorage) -> _Memory:
        found = self._memories.get(id(storage))
        if found is not None and found.storage() is storage:
            return found
        number = id(storage)

        def forget(gone: weakref.ref[torch.UntypedStorage]) -> None:
            memory = self._memories.get(number)
            if memory is not None and memory.storage is gone:
                del self._memories[number]
                for name in memory.names.values():
                    entry = self._entries.get(name)
                    if entry is not None and entry.storage is gone:
                        del self._entries[name]

        made = self._memories[number] = _Memory(weakref.ref(storage, forget))
        return made


_BROKEN_PROMISE = (
    "a weight of a model accelerated with frozen=True was changed in place: it is packed anew, but a change "
    "that torch does not count would not be seen; call restore(model) before weights are written to"
)


def _version(weight: Tensor) -> int | None:
    return None if weight.is_inference() else weight._version


#: Of all weights.
PACKED = PackedWeights()
call_cache.include(PACKED)
