"""Lists of launches compute what their launches compute one by one, whatever moved since the last call."""

from __future__ import annotations

import threading
import weakref
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from outstride.engine import runtime
from outstride.engine.codegen.ir import I64, module
from outstride.engine.codegen.tasks import entry
from outstride.engine.launch import launch_list
from outstride.engine.launch.argument_block import ArgumentBlock
from outstride.engine.launch.execute import gather_run
from outstride.engine.launch.fused import Step, fused_run
from outstride.engine.launch.launch_list import LaunchList
from outstride.engine.launch.launches import At, Launch
from outstride.engine.launch.maps import pooling
from outstride.engine.launch.weights import snapshots as weight_snapshots
from outstride.engine.launch.weights.packing import PACKED
from outstride.errors import ShapeError
from tests.tolerance import assert_same_bits

_NORM = Step("batch_norm", (1e-5,), ("channel", "channel", None, None))
_STEPS = (_NORM, Step("add", (), ("tensor",)), Step("leaky_relu", (0.1,)))
_TURNS = 4_000_000_000
_NAMES = ("x", "v", "w", "bias", "mean", "variance", "first", "pooled", "made")
_AT = {name: place for place, name in enumerate(_NAMES)}


class Chain:
    """A layer, a pool of it, and a layer with steps that adds the pool: operands of every kind, as a list."""

    def __init__(self, channels: int = 8, large: bool = False, promised: Sequence[str] = ()) -> None:
        generator = torch.Generator().manual_seed(0)
        size = (40, 48) if large else (6, 7)
        shapes = {
            "x": (2, channels, *size), "v": (channels, channels, 3, 3), "w": (channels, channels, 3, 3),
            "bias": (channels,), "mean": (channels,), "variance": (channels,), "first": (2, channels, *size),
            "pooled": (2, channels, *size), "made": (2, channels, *size),
        }  # fmt: skip
        self.values: list[Any] = [torch.rand(shapes[name], generator=generator) for name in _NAMES]
        self._memory = bytearray(self["bias"].numpy().tobytes())
        self["bias"] = self.bias()
        self.careful = list[int]()
        ones = ((1, 1), (1, 1), size, (1, 1), 1)
        x, v, w, *_, first, pooled, made = self.values
        self._layer = gather_run("conv", x, v, *ones, "auto", first)
        self._pool = pooling.pooling_run("max", first, 3, 1, 1, 1, False)
        self._steps = fused_run("conv", pooled, w, *ones, "auto", _STEPS, made)
        self._list = LaunchList(
            self._launches(), [_AT["first"], _AT["pooled"]], [_AT[name] for name in promised]
        )

    def __getitem__(self, name: str) -> Tensor:
        found: Tensor = self.values[_AT[name]]
        return found

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        self.values[_AT[name]] = tensor

    def bias(self) -> Tensor:
        """The bias in a storage of its own, which lies where all of them do."""
        return torch.frombuffer(self._memory, dtype=torch.float32)

    def _launches(self) -> list[Launch]:
        at = {name: At(place, self.values[place]) for name, place in _AT.items()}
        operands = [at["mean"], at["variance"], at["pooled"]]
        found = [
            self._layer.launch(at["x"], at["v"], at["bias"], at["first"]),
            self._pool.launch(at["first"], at["pooled"]),
            self._steps.launch(at["pooled"], at["w"], None, operands, at["made"]),
        ]
        launches = [launch for launch in found if launch is not None]
        assert len(launches) == 3
        return launches

    def _carefully(self, values: Sequence[Any], number: int) -> None:
        assert values is self.values
        self.careful.append(number)
        self._one(number, self["first"], self["pooled"], self["made"])

    def _one(self, number: int, first: Tensor, pooled: Tensor, made: Tensor) -> None:
        if number == 0:
            self._layer(self["x"], self["v"], self["bias"], first)
        elif number == 1:
            self._pool(first, pooled)
        else:
            self._steps(pooled, self["w"], None, [self["mean"], self["variance"], pooled], made)

    def assert_agrees(self, what: str, careful: Sequence[int] = ()) -> None:
        """The list makes what its launches make one by one; those numbers needed Python."""
        self.careful.clear()
        expected = [torch.empty_like(self[name]) for name in ("first", "pooled", "made")]
        for number in range(3):
            self._one(number, *expected)
        for name in ("first", "pooled", "made"):
            self[name].fill_(float("nan"))
        self._list(self.values, self._carefully)
        for name, tensor in zip(("first", "pooled", "made"), expected, strict=True):
            assert_same_bits(self[name], tensor, f"{what}: {name}")
        assert self.careful == list(careful), what


@pytest.mark.parametrize(("channels", "large"), [(8, False), (48, False), (32, True)])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_list_is_its_launches(channels: int, large: bool, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        chain = Chain(channels, large=large)
        for call in range(4):
            chain["x"].mul_(1.5)
            chain.assert_agrees(f"call {call}")
    finally:
        torch.set_num_threads(before)


def test_what_moves_is_found() -> None:
    chain = Chain()
    for name in ("x", "made", "bias", "mean", "variance", "v", "w", "x", "made", "w"):
        chain.assert_agrees("before")
        chain[name] = chain[name] * 2
        chain.assert_agrees(f"another {name}")
        chain[name].data = chain[name] * 2
        chain.assert_agrees(f"{name} in other memory")


@pytest.mark.parametrize("promised", [(), ("w",)])
@pytest.mark.parametrize("name", ["x", "w", "mean"])
def test_what_lies_in_another_way_is_refused(name: str, promised: Sequence[str]) -> None:
    chain = Chain(promised=promised)
    chain.assert_agrees("before")
    as_it_was = chain[name]
    longer = as_it_was.repeat(2, *[1] * (as_it_was.dim() - 1))
    for other in (longer, as_it_was.repeat_interleave(2, -1)[..., ::2]):
        chain[name] = other
        with pytest.raises(
            ShapeError, match=r"compiled for a tensor of size .* got size .*one model with it"
        ):
            chain._list(chain.values, chain._carefully)
    chain[name] = as_it_was
    chain.assert_agrees("as it was")


def test_strides_of_axes_that_nobody_steps_along_are_anything() -> None:
    chain = Chain(channels=1)
    chain["w"] = chain["w"].clone().as_strided(chain["w"].shape, (1, 7, 3, 1))
    chain.assert_agrees("one channel")


def test_promised_values_are_known_by_what_they_are() -> None:
    own = ("v", "w", "bias", "mean", "variance")
    chain = Chain(promised=own)
    for name in (*own, "x", "made", *own):
        chain.assert_agrees("before")
        chain[name] = chain[name] * 2
        chain.assert_agrees(f"another {name}")
    chain.assert_agrees("the last")
    made, lay_in = chain["made"].clone(), weakref.ref(chain["mean"].untyped_storage())
    chain["mean"].data = chain["mean"] + 1
    chain._list(chain.values, chain._carefully)
    assert_same_bits(chain["made"], made, "nobody looks where it lies")
    assert lay_in() is not None, "what is read is there"
    chain["mean"] = chain["mean"].clone()
    assert lay_in() is None, "with what it was kept for it goes"
    chain.assert_agrees("another mean")


def test_memory_that_is_taken_away_meanwhile_lives_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if since the last call the operand has got another storage, at the same address."""
    chain, run, held = Chain(), runtime.run_forking, list[bool]()

    def taken_away(*given: Any) -> None:
        storage = weakref.ref(chain["bias"].untyped_storage())
        chain["bias"].data = torch.zeros_like(chain["bias"])
        held.append(storage() is not None)
        run(*given)

    for another in (False, True, True):
        for _ in range(2):
            chain.assert_agrees("undisturbed")
        if another:
            chain["bias"] = chain.bias()
        with monkeypatch.context() as patch:
            patch.setattr(launch_list, "run_forking", taken_away)
            chain.assert_agrees("taken away")
        chain["bias"] = chain.bias()
    assert held == [True] * 3


def _by_element(w: Tensor) -> None:
    w.data.view(-1)[-1] += 1


def _by_numpy(w: Tensor) -> None:
    w.numpy()[...] *= -1


def _in_place(w: Tensor) -> None:
    w.add_(1)


@pytest.mark.parametrize("change", [_by_element, _by_numpy, _in_place])
@pytest.mark.parametrize("channels", [8, 48])  # compared with a copy, and by its fingerprint
def test_a_weight_that_was_written_to_is_packed_anew(channels: int, change: Callable[[Tensor], None]) -> None:
    chain = Chain(channels)
    for name in ("v", "w", "v"):
        chain.assert_agrees("before")
        change(chain[name])
        chain.assert_agrees(f"after a change of {name}")


def test_weights_that_are_not_finite_are_for_python() -> None:
    chain = Chain()
    chain.assert_agrees("finite")
    for value in (float("inf"), float("nan")):
        kept = chain["w"].clone()
        chain["w"][0, 0] = value
        for _ in range(3):
            chain.assert_agrees(f"a weight that is {value}", careful=[2])
        chain["w"].copy_(kept)
        for _ in range(2):
            chain.assert_agrees("finite again")


def test_results_that_are_not_finite_are_for_python() -> None:
    chain = Chain(64)
    kept = chain["x"].clone()
    for _ in range(2):
        chain["x"][1, 2, 3, 4] = float("inf")
        chain.assert_agrees("an infinity", careful=[0, 2])
        chain["x"].copy_(kept)
        chain.assert_agrees("finite again")


def test_promises_are_kept_and_taken_back() -> None:
    chain = Chain(48)
    chain.assert_agrees("looked at")
    made = chain["made"].clone()
    PACKED.freeze(chain["w"])
    chain.assert_agrees("frozen")
    assert list(chain._list.workers).count(0) == 1
    chain["w"].data.mul_(2)
    chain._list(chain.values, chain._carefully)
    assert_same_bits(chain["made"], made, "nobody looks")
    chain["w"].mul_(1)
    with pytest.warns(UserWarning, match="frozen"):
        chain._list(chain.values, chain._carefully)
    chain.assert_agrees("a change that torch counts")
    PACKED.thaw(chain["w"])
    chain["w"].data.mul_(2)
    chain.assert_agrees("looked at again")
    assert 0 not in chain._list.workers


def test_cleared_caches_leave_a_list_whole() -> None:
    chain = Chain()
    chain.assert_agrees("before")
    PACKED.clear()
    chain["v"].data.mul_(2)
    chain.assert_agrees("after")


def test_no_more_threads_look_than_a_list_has() -> None:
    """A weight that two threads packed is looked at by one where a list has one."""
    before = torch.get_num_threads()
    weight = torch.rand(256, 512, 3, 3)
    snapshot = weight_snapshots.take_snapshot(weight, weight.data_ptr(), 2)
    assert snapshot.look is not None
    assert snapshot.look.workers > 1
    x, y = torch.rand(1, 512, 4, 4), torch.empty(1, 256, 4, 4)
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            run = gather_run("conv", x, weight, (1, 1), (1, 1), (4, 4), (1, 1), 1, "auto", y)
            launch = run.launch(At(0, x), At(1, weight), None, At(2, y))
            assert launch is not None
            launches = LaunchList([launch], ())
            launches([x, weight, y], lambda _, number: pytest.fail(f"{number} did not do"))
            assert max(launches.workers) <= threads
            assert_same_bits(y, run(x, weight), f"{threads} threads")
    finally:
        torch.set_num_threads(before)


def test_other_python_threads_run_meanwhile() -> None:
    """A kernel that waits for a word that Python writes: it would wait for ever if it had the lock."""
    index = {name: i for i, name in enumerate(("y_at", "word", "turns"))}
    f, block = entry()
    place = f.at(block, index["word"], I64)
    turns = f.variable(I64, f.i64(0))
    with f.forever() as done:
        word = f.emit(I64, f"load atomic i64, ptr {place.name} monotonic, align 8")
        f.leave_when(f.compare("ne", word, 0), done)
        count = f.add(f.get(turns, I64), 1)
        f.set(turns, f.i64(count))
        f.leave_when(f.compare("sge", count, _TURNS), done)
    f.store(f.get(turns, I64), f.at(block, index["turns"], I64), 8)
    kernel = runtime.kernel("test_waits", lambda: module([f], "waits"), runtime.machine().instruction_set)
    y = torch.zeros(1)
    launches = LaunchList([Launch(kernel, ArgumentBlock.of(index, {}, {}), 1, {"y_at": At(0, y)})], ())
    words: array[int] = launches._parts[0].block
    thread = threading.Timer(0.05, lambda: words.__setitem__(index["word"], 1))
    thread.start()
    launches([y], lambda *_: None)
    thread.join()
    assert 0 < words[index["turns"]] < _TURNS
