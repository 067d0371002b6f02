"""The machine: its instruction sets, and what it is told to use."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outstride.engine import runtime
from outstride.engine.planner.machine import (
    ARM_COSTS,
    COSTS,
    INSTRUCTION_SETS,
    MESH_COSTS,
    WIDE_ARM_COSTS,
    Costs,
    Machine,
    as_run_by,
)
from outstride.engine.runtime import compiler, host
from outstride.errors import ArgumentError
from tests.engine.runtime.small_kernels import in_threads


def test_instruction_sets_nest_and_end() -> None:
    assert runtime.chosen() is None
    default = runtime.machine().instruction_set.name
    names = runtime.available()
    with runtime.instruction_set(names[-1]):
        assert runtime.machine().instruction_set.name == runtime.chosen() == names[-1]
        with runtime.instruction_set(names[0]):
            assert runtime.machine().instruction_set.name == names[0]
        assert runtime.machine().instruction_set.name == names[-1]
        with pytest.raises(ZeroDivisionError), runtime.instruction_set(names[0]):
            raise ZeroDivisionError
        assert runtime.chosen() == names[-1], "an error inside a block must end it"
    assert runtime.chosen() is None
    assert runtime.machine().instruction_set.name == default


def test_other_threads_keep_their_instruction_set() -> None:
    names = runtime.available()
    choices = [*names, None]

    def call(i: int) -> list[str | None]:
        seen = []
        for _ in range(50):
            name = choices[i]
            if name is None:
                seen.append(runtime.chosen())
            else:
                with runtime.instruction_set(name):
                    seen.append(runtime.machine().instruction_set.name)
        return seen

    with runtime.instruction_set(names[-1]):
        found = in_threads(len(choices), call)
    assert found == [[name] * 50 for name in choices]


@pytest.mark.parametrize("name", ["avx1024", "", "AVX2", "neon" if "avx2" in host.available() else "avx2"])
def test_instruction_sets_that_this_processor_lacks_are_refused(name: str) -> None:
    with pytest.raises(
        ArgumentError, match="'instruction_set' must be one that this processor runs"
    ) as refusal:
        runtime.instruction_set(name).__enter__()
    assert repr(name) in str(refusal.value)
    assert all(legal in str(refusal.value) for legal in runtime.available())
    assert runtime.chosen() is None


def test_the_environment_chooses_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in runtime.available():
        monkeypatch.setenv("OUTSTRIDE_ISA", name)
        assert host._default.__wrapped__() == name
    monkeypatch.setenv("OUTSTRIDE_ISA", "avx1024")
    with pytest.raises(ArgumentError, match="avx1024"):
        host._default.__wrapped__()
    monkeypatch.delenv("OUTSTRIDE_ISA")
    assert host._default.__wrapped__() == runtime.available()[0]


def test_detection_asks_for_every_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without one of the features that the code uses is not given that code."""
    if not compiler.native(INSTRUCTION_SETS["avx2"]):
        pytest.skip("these features are those of x86")
    features = {"avx": True, "fma": True, "f16c": True, "avx2": True, "avx512f": True, "avx512vl": True}
    features |= {"avx512dq": True, "avx512bw": True}
    monkeypatch.setattr(compiler, "host_features", lambda: features)
    assert host.detected.__wrapped__() == ("avx512", "avx2", "generic")
    expected = {
        "avx512vl": ("avx2", "generic"), "avx512dq": ("avx2", "generic"), "avx2": ("avx512", "generic"),
        "avx512bw": ("avx2", "generic"), "avx512f": ("avx2", "generic"), "avx": ("avx512", "avx2"),
        "fma": (), "f16c": (),
    }  # fmt: skip
    for lacking, names in expected.items():
        monkeypatch.setattr(compiler, "host_features", lambda lacking=lacking: {**features, lacking: False})
        assert host.detected.__wrapped__() == names, lacking


def test_used_features_are_asked_for() -> None:
    """What the compiler may use for an instruction set is what detection asks for; bmi2 comes with avx512."""
    for name, isa in INSTRUCTION_SETS.items():
        switched_on = {word[1:] for word in isa.features.split(",") if word.startswith("+")}
        assert switched_on - set(host._NEEDS[name]) <= {"bmi2", "neon"}, name


def test_a_processor_that_nothing_runs_on_is_declined(monkeypatch: pytest.MonkeyPatch) -> None:
    assert runtime.decline() is None
    monkeypatch.setattr(host, "available", lambda: ())
    monkeypatch.setattr(host, "detected", lambda: ())
    reason = runtime.decline()
    assert reason
    assert "multiply-add" in reason


def test_machines_of_this_host() -> None:
    for name in runtime.available():
        with runtime.instruction_set(name):
            machine = runtime.machine()
            assert machine is runtime.machine(), "plans are found by it"
            known = INSTRUCTION_SETS[name]
            found = replace(machine.instruction_set, fma_per_cycle=known.fma_per_cycle, costs=known.costs)
            assert found == known
            assert 1 << 14 <= machine.strip_bytes < machine.l2_bytes
            assert machine.panel_bytes + machine.strip_bytes <= machine.l2_bytes


@pytest.mark.parametrize(("cpu", "share"), [("znver4", 0.5), ("icelake-client", 0.5), ("znver5", 1.0)])
def test_some_processors_take_twice_as_long_for_the_widest_vectors(
    cpu: str, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "host_cpu", lambda: cpu)
    for name, known in INSTRUCTION_SETS.items():
        own = share if known.vector_bytes == 64 else 1.0
        found = host._machine.__wrapped__(name).instruction_set
        assert found == replace(known, fma_per_cycle=known.fma_per_cycle * own)


@pytest.mark.parametrize(
    ("name", "features", "expected"),
    [
        ("rocketlake", (), "rocketlake"),
        ("rocketlake", ("amx-tile",), "sapphirerapids"),
        ("x86-64-v4", ("amx-tile", "prefetchi"), "graniterapids"),
        ("emeraldrapids", ("amx-tile", "prefetchi"), "emeraldrapids"),
        ("znver9", ("amx-tile",), "znver9"),
    ],
)
def test_a_server_behind_another_number_is_one(
    name: str, features: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: name)
    monkeypatch.setattr(compiler, "host_features", lambda: dict.fromkeys(features, True))
    assert compiler.host_cpu() == expected


@pytest.mark.parametrize(("cpu", "rate"), [("neoverse-n1", 2.0), ("neoverse-v2", 4.0), ("generic", 2.0)])
def test_some_processors_of_arm_have_twice_as_many_units(cpu: str, rate: float) -> None:
    for name, known in INSTRUCTION_SETS.items():
        found = as_run_by(known, cpu)
        if name == "neon":
            assert found.fma_per_cycle == rate
            assert found.costs is (WIDE_ARM_COSTS if rate == 4.0 else ARM_COSTS)
            assert Machine(found).costs is found.costs
        else:
            assert found is known


@pytest.mark.parametrize(("cpu", "costs"), [("emeraldrapids", MESH_COSTS), ("znver5", COSTS)])
def test_second_levels_are_not_alike(cpu: str, costs: Costs) -> None:
    for known in INSTRUCTION_SETS.values():
        of_x86 = known.costs is COSTS
        assert as_run_by(known, cpu) == (replace(known, costs=costs) if of_x86 else known)
