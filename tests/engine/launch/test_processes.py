"""Layers in forked and spawned processes, DataLoader workers, Python threads and autograd's threads."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.connection import Connection

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import outstride.nn
from tests import ROOT
from tests.cases import LARGE_CASES, Case
from tests.environments import threads
from tests.operands import Operands, draw, run
from tests.tolerance import assert_same_bits

_BUSY = [
    c for c in LARGE_CASES if c.id in ("large-resnet-3x3", "large-dcgan-rgb", "large-hifigan", "large-batch")
]


def _network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(
        outstride.nn.Conv2d(3, 20, 3, padding=1),
        nn.ReLU(),
        outstride.nn.ConvTranspose2d(20, 6, 4, stride=2, padding=1),
    )


def _picture(index: int) -> Tensor:
    return torch.randn(3, 24, 40, generator=torch.Generator().manual_seed(index))


class _Pictures(Dataset[Tensor]):
    """A data set that runs layers in the worker, as an augmentation would."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            result: Tensor = self.network(_picture(index))
        return result


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_dataloader_workers_run_layers(context: str, request: pytest.FixtureRequest) -> None:
    if context not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {context} here")
    if context == "spawn":
        request.getfixturevalue("other_processes")
    data = _Pictures(_network())
    expected = torch.stack([data[i] for i in range(len(data))])  # also starts this process's thread pool
    loader = DataLoader(data, batch_size=3, num_workers=2, multiprocessing_context=context, timeout=120)
    for _ in range(2 if context == "fork" else 1):  # those that are spawned load torch anew each time
        assert_same_bits(torch.cat(list(loader)), expected, f"{context}ed workers")


def _child(case: Case, operands: Operands, pool: int | None, pipe: Connection) -> None:
    if pool is not None:
        torch.set_num_threads(pool)
    try:
        pipe.send({name: result.numpy() for name, result in run(case, operands).items()})
    except RuntimeError as error:
        if "fork-based multiprocessing" not in str(error):
            raise
        pipe.send({})


def _assert_child_agrees(case: Case, pool: int | None) -> None:
    # Drawn before the fork: torch's own operators may wait in the child for ever.
    operands = draw(case, "reals", torch.float32)
    expected = run(case, operands)
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_child, args=(case, operands, pool, there))
    child.start()
    try:
        assert here.poll(60), "the forked child does not answer: it waits for threads it does not have"
        found = here.recv()
    finally:
        child.kill()
        child.join(60)
    if not found:
        pytest.skip("torch built for CUDA has differentiated here: its children may not")
    for name, result in expected.items():
        assert_same_bits(torch.from_numpy(found[name]), result, f"{name} in the child")
    again = run(case, operands)
    for name, result in expected.items():
        assert_same_bits(again[name], result, f"{name} in the parent after the fork")


@pytest.mark.parametrize("pool", [1, None], ids=["one thread", "as many as the parent"])
@pytest.mark.parametrize("case", _BUSY[:2], ids=[c.id for c in _BUSY[:2]])
def test_fork_after_the_pool_has_run(case: Case, pool: int | None) -> None:
    """The child asks for one thread, as DataLoader does in its workers, or does not, and torch would hang."""
    with threads(2):
        _assert_child_agrees(case, pool)


_FORKS = """
import os, signal, sys
import torch, outstride.nn
torch.set_num_threads(2)
layer, x = outstride.nn.Conv2d(64, 64, 3), torch.randn(1, 64, 32, 32)
expected = layer(x).detach().numpy()
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(60)
assert (layer(x).detach().numpy() == expected).all()
before = len(os.listdir("/proc/self/task"))
if child := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
signal.alarm(60)
assert (layer(x).detach().numpy() == expected).all()
print(before > 1, len(os.listdir("/proc/self/task")) > 1, flush=True)
os._exit(0)  # torch 2.15 waits for its own threads of the parent otherwise
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there is the pool shared")
def test_forked_children_have_threads_of_their_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORKS], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.split() == ["True", "True"]


def _in_threads(calls: list[Callable[[], dict[str, Tensor]]], count: int) -> list[dict[str, Tensor]]:
    gate = threading.Barrier(count)

    def wait_and(call: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        gate.wait(60)
        return call()

    with ThreadPoolExecutor(count) as pool:
        return [f.result(120) for f in [pool.submit(wait_and, call) for call in calls]]


@pytest.mark.parametrize("pool", [1, 2])
def test_python_threads_at_once_get_the_same_bits(pool: int) -> None:
    """Different layers at the same time, each several times: nothing they share may mix."""
    operands = [draw(c, "reals", torch.float32) for c in _BUSY]
    with threads(pool):
        expected = [run(c, o) for c, o in zip(_BUSY, operands, strict=True)]
        for _ in range(5):
            calls: list[Callable[[], dict[str, Tensor]]] = [
                partial(run, c, o) for c, o in zip(_BUSY, operands, strict=True)
            ]
            for case, found, right in zip(_BUSY, _in_threads(calls, len(calls)), expected, strict=True):
                for name, result in found.items():
                    assert_same_bits(result, right[name], f"{case.id} {name} beside other layers")


def test_python_threads_share_one_layer() -> None:
    """One module called by several threads, the first calls of all of them at the same time."""
    for _ in range(5):
        network = _network()
        pictures = [_picture(n)[None] for n in range(4)]
        calls: list[Callable[[], dict[str, Tensor]]] = [
            lambda p=p: {"output": network(p).detach()}  # type: ignore[misc]  # noqa: B023 - called in this round
            for p in pictures
        ]
        found = _in_threads(calls, 4)
        for picture, result in zip(pictures, found, strict=True):
            assert_same_bits(result["output"], network(picture).detach(), "one layer in four threads")


def test_backward_from_another_thread() -> None:
    network = _network()
    picture = _picture(1)[None]

    def backward() -> dict[str, Tensor]:
        grads = torch.autograd.grad(network(picture).square().sum(), list(network.parameters()))
        return {str(n): g for n, g in enumerate(grads)}

    expected = backward()
    for found in _in_threads([backward] * 3, 3):
        for name, grad in found.items():
            assert_same_bits(grad, expected[name], f"gradient {name} from another thread")


def test_a_graph_built_in_one_thread_runs_backward_in_another() -> None:
    network = _network()
    loss = network(_picture(2)[None]).square().sum()
    expected = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)

    def backward() -> dict[str, Tensor]:
        grads = torch.autograd.grad(loss, list(network.parameters()), retain_graph=True)
        return {str(n): g for n, g in enumerate(grads)}

    for found in _in_threads([backward] * 2, 2):
        for n, grad in enumerate(expected):
            assert_same_bits(found[str(n)], grad, f"gradient {n} from another thread")


def test_the_number_of_threads_is_torchs() -> None:
    """No pool of our own: a process that torch keeps to one thread has no more once a layer has run."""
    program = (
        "import os, torch, outstride.nn\n"
        "torch.set_num_threads(1)\n"
        "torch.nn.functional.conv2d(torch.ones(1, 8, 64, 64), torch.ones(8, 8, 3, 3))\n"
        "before = len(os.listdir('/proc/self/task'))\n"
        "outstride.nn.Conv2d(64, 64, 3)(torch.ones(1, 64, 64, 64)).sum().backward()\n"
        "print(before, len(os.listdir('/proc/self/task')))\n"
    )
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    before, after = map(int, done.stdout.split())
    assert after <= before + 1, (
        "a layer started a pool of its own"
    )  # autograd may start its one device thread
