"""What every test file shares: reproducible draws, markers, and the line that repeats a failure."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import ROOT

# The laws ask for more threads than there are cores: they must not wait at the expense of those that work.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Kernels compiled by a test run stay out of the user's cache; tests in other processes share this one.
os.environ.setdefault("OUTSTRIDE_CACHE_DIR", str(ROOT / ".pytest_cache" / "kernels"))
# A hundred of them import the package: the first keeps what it has compiled of it for the others.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    max_examples=60,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.register_profile("explore", settings.get_profile("ci"), derandomize=False, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes more than about ten seconds; left out by default")


def pytest_collection_finish() -> None:
    """What is collected stays until the end: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:  # what pluggy sends in is the report
    report = yield
    if report.failed:
        report.sections.append(("repeat this failure", f"python -m pytest '{item.nodeid}' -m ''"))
    return report


def _skipping() -> Generator[None, object, object]:
    """Skip what starts a Python of its own where the system cannot run even the one that runs here."""
    try:
        return (yield)
    except OSError as problem:
        if problem.errno == errno.ENOEXEC and problem.filename == sys.executable:
            pytest.skip("the processor is emulated (ci/arm/run): no other process can be started on it")
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, object, object]:
    return (yield from _skipping())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    return (yield from _skipping())


@pytest.fixture(scope="session")
def other_processes() -> None:
    """Other processes start here: for tests that would not find out, or wait for one that never comes."""
    subprocess.run([sys.executable, "-c", ""], timeout=60, check=True)


@pytest.fixture(scope="session", autouse=True)
def _threads_share_the_least_work() -> None:
    """Laws of threads are about small layers, too, which users' calls leave to one thread."""
    from outstride.engine.planner import plan

    plan.ALONE_CYCLES = 0


@pytest.fixture(scope="session", autouse=True)
def _scratch_is_poisoned() -> Iterator[None]:
    from tests.poison import poison

    with poison(rooms=False):
        yield


@pytest.fixture(autouse=True)
def _settings_stay_as_they_were() -> Iterator[None]:
    """Of threads, put back; of gradients, demanded: what leaves them off makes other tests fail."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    if not torch.is_grad_enabled():
        torch.set_grad_enabled(True)
        pytest.fail("the test left gradients off")
