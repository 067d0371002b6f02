"""OUTSTRIDE_ALGORITHM says what "auto" is, once for a process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from outstride.engine.runtime import algorithm, resolved
from outstride.errors import ArgumentError
from outstride.layer.shortening import ALGORITHMS


@pytest.fixture(autouse=True)
def read_again() -> None:
    algorithm._usual.cache_clear()


@pytest.mark.parametrize("value", [None, "", "auto", "direct"])
def test_the_environment_says_what_auto_is(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("OUTSTRIDE_ALGORITHM", raising=False)
    else:
        monkeypatch.setenv("OUTSTRIDE_ALGORITHM", value)
    assert resolved("auto") == (value or "auto")
    assert resolved("direct") == "direct"
    monkeypatch.setenv("OUTSTRIDE_ALGORITHM", "fast")
    assert resolved("auto") == (value or "auto"), "what is asked at the first call stays"


def test_another_word_is_refused_by_whoever_asks_for_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSTRIDE_ALGORITHM", "fast")
    assert resolved("direct") == "direct"
    for _ in range(2):
        with pytest.raises(ArgumentError) as refusal:
            resolved("auto")
        assert str(refusal.value) == (
            "'OUTSTRIDE_ALGORITHM' must be one of its names: got OUTSTRIDE_ALGORITHM='fast'; "
            "legal: 'auto', 'direct'"
        )


CALLS = """
import torch
from outstride import accelerate, functional
from outstride.engine.launch import execute

x, w = torch.ones(1, 16, 9, 9), torch.ones(16, 16, 3, 3, requires_grad=True)
functional.conv2d(x, w).sum().backward()
accelerate(torch.nn.Conv2d(16, 16, 3))(x)
kept = {key for cache in (execute.CONTRACTIONS, execute.WEIGHT_GRADIENTS) for key in cache.entries()}
print(sorted({name for key in kept for name in key if name in ("auto", "direct")}))
"""


@pytest.mark.parametrize("value", [*ALGORITHMS, "fast"])
def test_a_process_that_was_told_an_algorithm(value: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CALLS],
        env={**os.environ, "OUTSTRIDE_ALGORITHM": value},
        capture_output=True,
        text=True,
        check=False,
    )
    if value == "fast":
        assert done.returncode == 1
        assert done.stderr.strip().splitlines()[-1].endswith("legal: 'auto', 'direct'")
    else:
        assert done.stdout.strip() == f"['{value}']", done.stderr
