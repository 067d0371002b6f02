"""What is said about the runtime on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from outstride.engine import runtime
from outstride.engine.runtime import cache, host


def test_info_says_what_there_is(empty_cache: Path) -> None:
    facts = runtime.info()
    assert set(facts) == {
        "python", "platform", "system", "compiler", "cpu", "cpu_count", "cpus_usable", "cpu_share",
        "instruction_sets", "probe", "instruction_set", "algorithm", "declines", "l2_bytes", "l2_from",
        "openmp", "dtypes", "cache_path", "cache_bytes", "cache_entries",
    }  # fmt: skip
    assert json.loads(json.dumps(facts)) == facts
    assert facts["instruction_sets"] == list(runtime.available())
    assert facts["probe"] == host.probed()
    assert facts["cache_path"] == str(empty_cache)
    assert (facts["cache_entries"], facts["cache_bytes"]) == (0, 0)
    assert "libgomp" in str(facts["openmp"])
    assert "LLVM" in str(facts["compiler"])
    assert all(hasattr(torch, str(name)) for name in facts["dtypes"])  # type: ignore[attr-defined]
    cache.write("a", b"code")
    with runtime.instruction_set(runtime.available()[-1]):
        later = runtime.info()
    assert later["instruction_set"] == runtime.available()[-1]
    assert (later["cache_entries"], later["cache_bytes"]) == (1, cache.size_bytes())


def test_info_on_a_machine_that_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "available", lambda: ())
    facts = runtime.info()
    assert facts["declines"]
    assert (facts["instruction_sets"], facts["instruction_set"]) == ([], None)
    assert (facts["l2_bytes"], facts["l2_from"]) == (None, None)
