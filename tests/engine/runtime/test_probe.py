"""Whether generated code may run: tried in a process of its own, and what becomes of it where it may not."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import llvmlite.binding
import pytest

from outstride.engine.planner.machine import INSTRUCTION_SETS
from outstride.engine.runtime import cache, compiler, host, probe, trial

NAMES = host.detected()


@pytest.fixture(autouse=True)
def fresh(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No verdict is known, in memory or on disk, and none that is found here stays."""
    monkeypatch.delenv("OUTSTRIDE_PROBE", raising=False)
    forget = probe.verdict.cache_clear
    forget()
    yield
    forget()


def _answering(output: str, code: int = 0, error: str = "") -> object:
    """What stands for `subprocess.run`: one process that says this, and ends so."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, code, output, error)

    return run


@pytest.mark.usefixtures("other_processes")
def test_every_set_is_tried_and_a_good_verdict_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found = probe.verdict(NAMES)
    assert found == probe.Verdict(NAMES, {}, "tried in a process of its own")
    (kept,) = cache.entries(cache.VERDICT)
    assert cache.entries() == [], "it is no kernel"

    def never(*_: object, **__: object) -> None:
        raise AssertionError("another process was started")

    monkeypatch.setattr(subprocess, "run", never)
    probe.verdict.cache_clear()
    assert probe.verdict(NAMES) == probe.Verdict(NAMES, {}, "tried before on this machine")
    assert cache.clear() == 0
    assert not kept.exists(), "who empties the cache wants it tried again"


@pytest.mark.usefixtures("other_processes")
def test_another_confinement_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    probe.verdict(NAMES)
    monkeypatch.setattr(probe, "confinement", lambda: ("Seccomp:\t2",))
    probe.verdict.cache_clear()
    assert probe.verdict(NAMES).how == "tried in a process of its own"
    assert len(cache.entries(cache.VERDICT)) == 2


def _with_rounded_products(source: str, operand: str) -> str:
    """The source with a product and a sum in place of the multiply-add of this operand."""
    lines = source.splitlines()
    (place,) = (n for n, line in enumerate(lines) if "= call" in line and f" {operand}, " in line)
    result, _, call = lines[place].partition(" = call ")
    type_ = call.partition(" @")[0]
    added = call.rpartition(f"{type_} ")[2].removesuffix(")")
    lines[place : place + 1] = [
        f"  %product = fmul {type_} {operand}, {operand}",
        f"{result} = fadd {type_} %product, {added}",
    ]
    return "\n".join(lines)


@pytest.mark.parametrize("name", NAMES)
def test_a_processor_that_rounds_products_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an emulator may that has no multiply-add of its own."""
    isa = INSTRUCTION_SETS[name]
    assert trial.is_right(isa)
    source = trial.source(isa)
    for operand in ("%a", "%b"):
        rounded = _with_rounded_products(source, operand)
        monkeypatch.setattr(trial, "source", lambda _, text=rounded: text)
        assert not trial.is_right(isa)


def test_code_that_ends_a_process_leaves_narrower_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor promises what it lacks: the process that tries it dies of it, and this one does not."""
    names = NAMES[:2]
    if len(names) < 2:
        pytest.skip("one instruction set")
    command, _ = probe._command()
    assert command is not None
    *start, program = command
    # The first set's code is an instruction that no processor has.
    other = f"""
true = trial.source
def source(isa):
    dies = true(isa).replace("ret void", "call void @llvm.trap() ret void") + "declare void @llvm.trap()"
    return dies if isa.name == {names[0]!r} else true(isa)
trial.source = source
trial.main(sys.argv[1:])
"""
    ill = program.rpartition(";")[0] + other
    monkeypatch.setattr(probe, "_command", lambda: ([*start, ill], ""))
    found = probe.verdict(names)
    assert found.runs == names[1:]
    assert found.fails == {names[0]: "it ends a process (SIGILL)"}
    assert cache.entries(cache.VERDICT) == [], "what is mended is tried again"


@pytest.mark.parametrize(
    ("output", "code", "runs", "fails"),
    [
        ("trying {0}\nwrong {0}\n", 0, 0, "its results are wrong"),
        ("trying {0}\n", -11, 0, "it ends a process (SIGSEGV)"),
        ("trying {0}\n", 3221225501, 0, "it ends a process (exit code 3221225501)"),
        ("trying {0}\nright {0}\n", 0, 1, None),
    ],
)
def test_what_a_process_says_is_believed(
    output: str, code: int, runs: int, fails: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = NAMES[0]
    monkeypatch.setattr(subprocess, "run", _answering(output.format(name), code))
    found = probe.verdict((name,))
    assert len(found.runs) == runs
    assert found.fails.get(name) == fails


def test_the_code_of_an_exit_is_not_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ignores the end of its children sees 0 of all of them."""
    monkeypatch.setattr(subprocess, "run", _answering(f"trying {NAMES[0]}\n", 0))
    assert probe.verdict(NAMES[:1]).runs == ()


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (
            _answering("", 1, "ModuleNotFoundError: No module named 'llvmlite'\n"),
            "No module named 'llvmlite'",
        ),
        (_answering("", -9), "the process said nothing"),
        (OSError("Resource temporarily unavailable"), "Resource temporarily unavailable"),
        (RuntimeError("not allowed here"), "not allowed here"),
        (subprocess.TimeoutExpired("python", 1), "no answer within"),
    ],
)
def test_where_nothing_can_be_tried_code_runs_untried(
    run: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        assert isinstance(run, Exception)
        raise run

    monkeypatch.setattr(subprocess, "run", refused if isinstance(run, Exception) else run)
    found = probe.verdict(NAMES)
    assert (found.runs, found.fails) == (NAMES, {})
    assert found.how.startswith("not tried: ")
    assert reason in found.how
    assert cache.entries(cache.VERDICT) == []


def test_what_was_found_out_stays_so_where_the_rest_cannot_be_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first process died of one set, and no other can be started for those behind it."""
    names = (*NAMES, "another")
    answers = iter([_answering(f"trying {names[0]}\n", -4)])

    def run(*arguments: object, **keywords: object) -> object:
        answer = next(answers, None)
        if answer is None:
            raise OSError("Resource temporarily unavailable")
        assert callable(answer)
        return answer(*arguments, **keywords)

    monkeypatch.setattr(subprocess, "run", run)
    found = probe.verdict(names)
    assert (found.runs, set(found.fails)) == (names[1:], {names[0]})
    assert "SIGILL" in found.fails[names[0]]
    assert found.how == "not tried: no process could be started (Resource temporarily unavailable)"


def test_a_program_that_is_no_interpreter_is_not_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would start the application once more."""
    from multiprocessing import spawn

    with monkeypatch.context() as patch:
        patch.setattr(sys, "frozen", True, raising=False)
        assert "frozen" in probe.verdict(NAMES).how
    for program in (b"/usr/bin/blender", "/opt/app/editor.exe", None):
        monkeypatch.setattr(spawn, "get_executable", lambda program=program: program)
        assert "no interpreter to start" in probe.verdict.__wrapped__(NAMES).how
    monkeypatch.setattr(spawn, "get_executable", lambda: "C:/venv/Scripts/pythonw.exe")
    assert probe._command()[0] is not None


def test_the_environment_may_forbid_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSTRIDE_PROBE", "off")
    monkeypatch.setattr(subprocess, "run", _answering(""))
    assert probe.verdict(NAMES) == probe.Verdict(NAMES, {}, "not tried: OUTSTRIDE_PROBE is off")


def test_a_system_that_refuses_memory_for_code_is_not_tried_further(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(13, "cannot allocate executable memory")

    monkeypatch.setattr(llvmlite.binding, "check_jit_execution", refuse)
    found = probe.verdict(NAMES)
    assert found.runs == ()
    assert set(found.fails) == set(NAMES)
    assert "Permission denied" in found.fails[NAMES[0]]


_MDWE = """
import ctypes
assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0
from outstride.engine.runtime import host
print(host.decline())
"""


def test_a_process_that_may_not_run_what_it_wrote_is_told(empty_cache: Path) -> None:
    """Linux is asked to refuse it, as services of systemd with MemoryDenyWriteExecute are."""
    if not sys.platform.startswith("linux") or ctypes.CDLL(None).prctl(probe._PR_GET_MDWE, 0, 0, 0, 0) != 0:
        pytest.skip("needs Linux from 6.3 on")
    done = subprocess.run(
        [sys.executable, "-c", _MDWE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("generated code does not run here: the system refuses"), done.stderr


def test_declines_say_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    fails = dict.fromkeys(NAMES, "it ends a process (SIGILL)")
    monkeypatch.setattr(probe, "verdict", lambda _: probe.Verdict((), fails, "tried in a process of its own"))
    monkeypatch.setattr(host, "available", host.available.__wrapped__)
    assert host.decline() == "generated code does not run here: it ends a process (SIGILL)"
    assert host.probed() == {"how": "tried in a process of its own", **fails}
    monkeypatch.setattr(host, "detected", lambda: ())
    assert "multiply-add" in str(host.decline())
    assert host.probed() == {}
    monkeypatch.setattr(compiler, "native", lambda _: False)
    monkeypatch.setattr(compiler, "architecture", lambda: "riscv64")
    assert host.decline() == "the engine has no instruction set for riscv64"
