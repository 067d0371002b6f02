"""A dataflow is a module of the planner with its namesake in code, and nobody else compares its name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from outstride.engine.codegen.dataflows import KERNELS, LOOPS, MICROKERNELS
from outstride.engine.planner import dataflow
from outstride.engine.planner.dataflows import DATAFLOWS, channels, lanes, pixels, rows, unpacked
from outstride.engine.planner.machine import INSTRUCTION_SETS
from tests import ROOT

SOURCE = ROOT / "src" / "outstride"
ENGINE = SOURCE / "engine"
NAMES = {flow.name for flow in DATAFLOWS} | set(dataflow.LOOPS)
FILES = sorted({*ENGINE.rglob("*.py"), SOURCE / "planning.py"})


def test_every_dataflow_is_a_module_in_both_rooms() -> None:
    for flow in DATAFLOWS:
        for room in ("planner", "codegen"):
            assert (ENGINE / room / "dataflows" / f"{flow.name}.py").exists(), (room, flow)
    assert {*MICROKERNELS, *KERNELS} == {flow.name for flow in DATAFLOWS}
    assert {*LOOPS, *KERNELS} == set(dataflow.LOOPS)


def test_every_instruction_set_has_tiles_of_its_own() -> None:
    tables = (channels.TILES, channels.STRAIGHT_TILES, lanes.TILES, pixels.TILES, rows.TILES, unpacked.TILES)
    assert all(set(table) == set(INSTRUCTION_SETS) for table in tables)


def _compared(tree: ast.AST) -> Iterator[str]:
    """Every string that something is compared with, by an operator or in a match."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare | ast.MatchValue):
            for part in ast.walk(node):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield part.value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_nobody_compares_the_name_of_a_dataflow(path: Path) -> None:
    found = NAMES & set(_compared(ast.parse(path.read_text(encoding="utf-8"))))
    assert not found, "ask the dataflow: planner/dataflow.py has what it answers"
