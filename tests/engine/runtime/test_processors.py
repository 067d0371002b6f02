"""Processors that a process may use: as control groups of both kinds say, from inside containers and not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from outstride.cli.info import _advice
from outstride.engine.runtime import processors

_UNIFIED = {"proc/self/cgroup": "0::/a/b\n"}
_LEGACY = {"proc/self/cgroup": "5:memory:/a\n4:cpu,cpuacct:/a\n1:name=systemd:/\n"}


def _root(where: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(text)
    return where


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (_UNIFIED, None),
        ({**_UNIFIED, "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ({**_UNIFIED, "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                **_UNIFIED,
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
                "sys/fs/cgroup/a/cpu.max": "5000 10000",
            },
            0.5,
        ),
        ({**_UNIFIED, "sys/fs/cgroup/cpu.max": "200000 100000\n"}, 2.0),
        ({**_UNIFIED, "sys/fs/cgroup/a/b/cpu.max": "many\n"}, None),
        ({**_UNIFIED, "sys/fs/cgroup/a/b/cpu.max": "100000 0\n"}, None),
        ({"proc/self/cgroup": "no group\n"}, None),
        (_LEGACY, None),
        (
            {
                **_LEGACY,
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us": "50000\n",
                "sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
            },
            0.5,
        ),
        (
            {
                **_LEGACY,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
        ),
    ],
)
def test_the_share_is_the_least_that_a_group_says(
    files: dict[str, str], expected: float | None, tmp_path: Path
) -> None:
    assert processors.share(_root(tmp_path, files)) == expected


def test_processors_are_those_that_it_may_run_on() -> None:
    assert 1 <= processors.usable() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("threads", "share", "advised"),
    [
        (4, None, None),
        (None, 0.5, None),
        (2, 2.0, None),
        (2, 1.5, None),
        (1, 0.25, None),
        (4, 1.5, 2),
        (2, 0.5, 1),
    ],
)
def test_more_threads_than_time_are_advised_against(
    threads: int | None, share: float | None, advised: int | None
) -> None:
    advice = _advice(threads, share)
    assert (advice is None) == (advised is None)
    assert advice is None or advice.startswith(f"torch.set_num_threads({advised}): ")
