"""ARCHITECTURE.md is checked, not believed: its import table is compared with the imports in the source."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from outstride.engine.codegen.authorship import authors
from tests import ROOT

SOURCE = ROOT / "src" / "outstride"
MODULES = sorted(SOURCE.rglob("*.py"))
FACE = "__init__"  # the package itself: it names every public module, lazily, and so stands outside the order

STANDARD = {"__future__", *sys.stdlib_module_names}
LINES_PER_FILE = 400
LINES_OF_ARCHITECTURE = 150
NAMES_THAT_SAY_NOTHING = {"utils", "util", "core", "common", "helpers", "helper", "base", "misc"}
WING = "engine"  # whose packages are rooms of their own
FREE_OF_TORCH = {"errors", "output", "layer", "geometry", "reference", "engine.planner", "engine.codegen"}


@cache
def dotted(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The module or package below `outstride`, or below its engine, that a dotted name belongs to."""
    parts = module.split(".")[1:]
    return ".".join(parts[: 2 if parts[0] == WING else 1]) if parts else FACE


def called_with_a_name(node: ast.AST) -> str | None:
    """The literal module name of an `import_module("...")` or `__import__("...")` call."""
    if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
        return None
    function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return str(node.args[0].value) if function in {"import_module", "__import__"} else None


def imported_names(path: Path) -> Iterator[str]:
    """Every dotted name that a file imports, at any depth, also lazily and for annotations alone."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif name := called_with_a_name(node):
            yield name


@cache
def known() -> frozenset[str]:
    """The dotted names of all modules."""
    return frozenset(map(dotted, MODULES))


@cache
def imports(path: Path) -> tuple[frozenset[str], frozenset[str]]:
    """The modules of ours and the dotted names of others that a file imports."""
    ours, others = set(), set()
    for name in imported_names(path):
        if name.split(".")[0] != "outstride":
            others.add(name)
            continue
        while name not in known():
            name = name.rpartition(".")[0]
        ours.add(name)
    return frozenset(ours - {dotted(path)}), frozenset(others)


@cache
def rooms() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """For every room, the rooms and the foreign packages that its files import."""
    found: dict[str, tuple[set[str], set[str]]] = {}
    for path in MODULES:
        room = room_of(dotted(path))
        if room == FACE:
            continue
        ours, others = imports(path)
        mine = found.setdefault(room, (set(), set()))
        mine[0].update({room_of(module) for module in ours} - {room})
        mine[1].update(name.split(".")[0] for name in others)
    return {room: (frozenset(ours), frozenset(others)) for room, (ours, others) in found.items()}


@cache
def table() -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """The import table of ARCHITECTURE.md: room -> (rooms, foreign packages), in the order of its rows."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \|[^|]*\|([^|]*)\|([^|]*)\|$", text, flags=re.MULTILINE)
    words = [(name, *(frozenset(re.findall(r"`([\w.]+)`", cell)) for cell in cells)) for name, *cells in rows]
    return {name: (ours, others) for name, ours, others in words}


def test_the_table_names_every_room_once() -> None:
    assert set(table()) == set(rooms())


@pytest.mark.parametrize("room", sorted(rooms()))
def test_a_room_imports_what_the_table_says(room: str) -> None:
    ours, others = rooms()[room]
    assert set(ours) - {FACE} == set(table()[room][0]), f"{room} and its row in ARCHITECTURE.md differ"
    assert others - STANDARD == set(table()[room][1]), f"{room} and its row in ARCHITECTURE.md differ"


def test_a_room_imports_only_rooms_above_it() -> None:
    seen: set[str] = set()
    for room, (ours, _) in table().items():
        assert ours <= seen | {FACE}, f"{room} imports {sorted(ours - seen)}, which the table lists below it"
        seen.add(room)


def test_only_the_outermost_rooms_import_the_public_face() -> None:
    users = {room for room, (ours, _) in rooms().items() if FACE in ours}
    assert users <= {"cli", "bench", "demo", "__main__"}


def test_no_cycle_between_modules() -> None:
    graph = {
        dotted(path): imports(path)[0] - {"outstride"} for path in MODULES if dotted(path) != "outstride"
    }
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("package", "rooms_with_it"),
    [
        ("torch", {FACE, *rooms()} - FREE_OF_TORCH),
        ("llvmlite.binding", {"engine.runtime"}),  # only runtime may execute
        ("llvmlite.ir", {"engine.codegen"}),  # only codegen may write code
        ("llvmlite", {"engine.codegen", "engine.runtime", "cli"}),
    ],
)
def test_torch_and_llvm_stay_in_their_rooms(package: str, rooms_with_it: set[str]) -> None:
    found = {
        dotted(path): room_of(dotted(path))
        for path in MODULES
        if any(f"{name}.".startswith(f"{package}.") for name in imports(path)[1])
    }
    assert not {name: room for name, room in found.items() if room not in rooms_with_it}


def test_only_what_launches_knows_both_planner_and_runtime() -> None:
    both = {room for room, (ours, _) in rooms().items() if {"engine.planner", "engine.runtime"} <= ours}
    assert both == {"engine.launch"}


def test_a_kernel_is_kept_under_a_digest_of_all_that_writes_it() -> None:
    """What a module of `codegen` imports, however far away, is in the key of the kernels on disk."""
    left = [path for path in MODULES if room_of(dotted(path)) == "engine.codegen"]
    seen: set[Path] = set()
    while left:
        path = left.pop()
        seen.add(path)
        left += [found for found in MODULES if dotted(found) in imports(path)[0] and found not in seen]
    assert seen - {SOURCE / "__init__.py", SOURCE / WING / "__init__.py"} <= set(authors())


def test_the_reference_is_never_called_by_the_engine() -> None:
    served = {"functional", "nn", "acceleration", "planning"}
    users = {room for room, (ours, _) in rooms().items() if "reference" in ours}
    assert not {room for room in users if room in served or room.startswith(WING)}


def test_a_file_has_one_reason_and_a_name_that_says_it() -> None:
    texts = {dotted(path): path.read_text(encoding="utf-8") for path in MODULES}
    assert not [name for name, text in texts.items() if len(text.splitlines()) > LINES_PER_FILE]
    assert not [name for name in texts if NAMES_THAT_SAY_NOTHING & set(name.split("."))]
    silent = [name for name, text in texts.items() if text.strip() and not ast.get_docstring(ast.parse(text))]
    assert not silent, "a module says in its first line what it is for"


def test_architecture_is_short() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LINES_OF_ARCHITECTURE


def test_every_path_that_architecture_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:src|tests|docs|bench)/[\w./-]+)`", text))
    short = {name for name in re.findall(r"`(\w+/[\w/]+\.py)`", text) if not name.startswith("tests/")}
    missing = sorted(name for name in named if not (ROOT / name).exists())
    missing += sorted(n for n in short if not (SOURCE / n).exists() and not (SOURCE / WING / n).exists())
    assert named
    assert not missing
