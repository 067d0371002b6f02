"""Processes in strange places: a right result or one sentence, wherever they run.

Each is made for a process of its own: file systems are mounted in a namespace that nobody else sees, which
takes root, or a system that lets everybody have one.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="places are made as Linux makes them"),
]

_PROGRAM = """
import json, os, sys
import torch
from tests.cases import BY_ID
from tests.contract import verify_contract
from outstride.engine import runtime
torch.set_num_threads(2)
for name in ("conv2d-groups-2", "transpose2d-kernel-is-stride-2"):
    verify_contract(BY_ID[name], "value")
    verify_contract(BY_ID[name], "threads")
print(json.dumps(runtime.info()))
"""


def _info(*before: str, shell: str = "true", **environment: str) -> Mapping[str, Any]:
    """What a process says of itself after it has obeyed laws, in a place that shell commands have made."""
    command = [*before, sys.executable, "-c", _PROGRAM]
    done = subprocess.run(
        ["sh", "-c", f'{shell} && exec "$@"', "sh", *command],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=200, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: Mapping[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _apart(shell: str, **environment: str) -> Mapping[str, Any]:
    """The same in a namespace of file systems of its own."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("no namespaces here")
    code = f'{shell} && exec "$@"'
    return _info(*unshare, "sh", "-c", code, "sh", **environment)


def test_without_proc_and_sys(tmp_path: Path) -> None:
    """Nothing says how large caches are; torch's threads are found all the same."""
    shell = "mount -t tmpfs none /sys && mount -t tmpfs none /proc"
    found = _apart(shell, OUTSTRIDE_CACHE_DIR=str(tmp_path / "kernels"))
    assert (found["l2_bytes"], found["l2_from"]) == (1 << 19, "supposed: the system does not say")
    assert found["openmp"].startswith("/")
    assert found["declines"] is None


def test_a_home_that_is_read_only(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    shell = f"mount -t tmpfs -o ro none {home}"
    found = _apart(shell, HOME=str(home), XDG_CACHE_HOME="", OUTSTRIDE_CACHE_DIR="")
    assert (found["cache_entries"], found["declines"]) == (0, None)
    assert found["cache_path"].startswith(str(home))


def test_a_cache_from_which_nothing_may_be_run(tmp_path: Path) -> None:
    """Kernels are read, not run, from there; nor is code kept in temporary files."""
    place = tmp_path / "kernels"
    place.mkdir()
    shell = f"mount -t tmpfs -o noexec,mode=700 none {place} && mount -t tmpfs -o noexec none /dev/shm"
    found = _apart(shell, OUTSTRIDE_CACHE_DIR=str(place))
    assert found["cache_entries"] > 0
    assert found["declines"] is None


@pytest.mark.parametrize(("said", "expected"), [("512K", 1 << 19), ("256K", 1 << 18), ("0K", 1 << 19)])
def test_small_second_level_caches(said: str, expected: int, tmp_path: Path) -> None:
    size = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    if not size.exists():
        pytest.skip("the system does not say how large its caches are")
    (tmp_path / "size").write_text(said + "\n")
    found = _apart(f"mount --bind {tmp_path / 'size'} {size}", OUTSTRIDE_CACHE_DIR=str(tmp_path / "kernels"))
    assert found["l2_bytes"] == expected


def test_one_processor(tmp_path: Path) -> None:
    if shutil.which("taskset") is None:
        pytest.skip("taskset is not installed")
    first = min(os.sched_getaffinity(0))
    found = _info("taskset", "-c", str(first), OUTSTRIDE_CACHE_DIR=str(tmp_path / "kernels"))
    assert found["cpus_usable"] == 1


_REFUSED = """
import ctypes
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0
import torch, outstride
from tests.cases import BY_ID
from tests.contract import verify_contract
for name in ("conv2d-groups-2", "transpose2d-kernel-is-stride-2"):
    verify_contract(BY_ID[name], "value")
model = torch.nn.Sequential(torch.nn.Conv2d(16, 32, 3), torch.nn.ReLU())
x = torch.randn(1, 16, 28, 28, requires_grad=True)
outstride.accelerate(model)(x).sum().backward()
with torch.no_grad():
    print(torch.equal(torch.compile(model, backend="outstride")(x), model(x)))
"""


def test_torch_computes_where_no_written_code_may_run() -> None:
    """Torch's own transposed convolution fails there: oneDNN's code is refused as ours is."""
    from outstride.engine.runtime import probe

    if ctypes.CDLL(None).prctl(probe._PR_GET_MDWE, 0, 0, 0, 0) != 0:
        pytest.skip("needs Linux from 6.3 on")
    done = subprocess.run(
        [sys.executable, "-c", _REFUSED], capture_output=True, text=True, timeout=200, check=False, cwd=ROOT
    )
    assert done.stdout.split() == ["True"], done.stderr
