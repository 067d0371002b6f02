"""The core tests with the oldest, the newest and other versions of Python and of what is imported: one table.

    python ci/versions.py                              # every environment, one after the other
    python ci/versions.py oldest newest                # these
    python ci/versions.py oldest -- tests/nn -k even   # what pytest is asked for, instead of the core tests
    python ci/versions.py --list                       # names and Pythons as JSON, for a workflow's matrix

uv (``pip install uv``) makes each environment: it finds or brings the Python and chooses versions. For the
oldest it takes the lowest of all that ``pyproject.toml`` names, so that a floor which does not hold fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Environment:
    """A Python, and what is installed for it: the versions pinned, of all else the highest or the lowest."""

    name: str
    python: str
    pins: tuple[str, ...] = ()
    resolution: str = "highest"


#: The two ends of the range, and between them some torches, so that every Python comes once.
ENVIRONMENTS = (
    Environment("oldest", "3.10", resolution="lowest-direct"),
    Environment("torch-2.8", "3.12", ("torch==2.8.*",)),
    Environment("torch-2.10", "3.13", ("torch==2.10.*",)),
    Environment("torch-2.13", "3.11", ("torch==2.13.*",)),
    Environment("newest", "3.14"),
)
#: Extras whose libraries the core tests use; what is missing, skips.
EXTRAS = ("operator", "tiling", "volumes", "audio", "distributed")
#: What every torch must run. The other tests are of pages, pictures, other libraries and the repository.
CORE = (
    "acceleration", "compilation", "convert", "engine", "functional", "geometry", "inspection", "laws",
    "layer", "linear", "models", "nn", "reference", "tiling", "test_planning.py",
)  # fmt: skip
SHOWN = ("torch", "llvmlite", "numpy")
COLUMNS = ("environment", "Python", *SHOWN, "passed", "failed", "skipped", "minutes")


@dataclass
class Outcome:
    """What became of an environment."""

    name: str
    versions: tuple[str, ...] = ()
    """Of Python and of what is shown."""
    counts: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    minutes: float = 0.0
    fault: str | None = None
    """Why there are no counts, or none to believe."""

    @property
    def passed(self) -> bool:
        """Whether tests ran, and all passed."""
        return self.fault is None and self.counts.get("passed", 0) > 0 and not self.failures


def installation(environment: Environment, folder: Path, own_torch: bool) -> Iterator[list[str]]:
    """The commands that make an environment: what users install, then the highest of what tests need."""
    if not interpreter(folder).exists():
        yield ["uv", "venv", "--quiet", "--python", environment.python, str(folder)]
    install = ["uv", "pip", "install", "--quiet", "--python", str(interpreter(folder))]
    if not own_torch:
        install += ["--torch-backend", "cpu"]
    wanted = [f".[{','.join(EXTRAS)}]", *environment.pins]
    yield [*install, "--resolution", environment.resolution, "-e", *wanted]
    yield [*install, "-e", ".[core-test]", *environment.pins]


def interpreter(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def versions(python: Path) -> tuple[str, ...]:
    """Of a Python, and of the packages that are shown."""
    imports = "import platform; from importlib.metadata import version"
    code = f"{imports}; print(platform.python_version(), *map(version, {SHOWN!r}))"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    return tuple(said.split())


def tested(outcome: Outcome, python: Path, arguments: Sequence[str], folder: Path) -> None:
    """Run pytest, show what it prints, and note what it says at its end."""
    # Each environment compiles all its kernels by its own llvmlite.
    surroundings = {**os.environ, "OUTSTRIDE_CACHE_DIR": str(folder / "kernels")}
    surroundings.pop("PYTHONPATH", None)
    command = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        outcome.failures, outcome.counts = summary(shown(process.stdout))
    if process.returncode not in (0, 1):
        outcome.fault = f"pytest ended with {process.returncode}"
    elif not outcome.counts.get("passed"):
        outcome.fault = "no test ran"


def shown(lines: Iterable[str]) -> Iterator[str]:
    """Lines as they come, printed."""
    for line in lines:
        print(line, end="", flush=True)
        yield line


#: A line such as ``1 failed, 20 passed, 3 skipped in 4.56s``, and its parts.
_LAST = re.compile(r"\d+ \w+.* in [\d.]+s")
_COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")


def summary(lines: Iterable[str]) -> tuple[list[str], dict[str, int]]:
    """The tests that failed, and how many there were of each kind, from the lines that pytest prints."""
    failures: list[str] = []
    counts: dict[str, int] = {}
    for line in lines:
        if line.startswith(("FAILED ", "ERROR ")):
            failures.append(line.strip())
        elif _LAST.search(line):
            counts = {kind: int(count) for count, kind in _COUNT.findall(line)}
    return failures, counts


def run(environment: Environment, folder: Path, arguments: Sequence[str], own_torch: bool) -> Outcome:
    """Make an environment and run the tests in it."""
    outcome = Outcome(environment.name)
    began = time.monotonic()
    try:
        for command in installation(environment, folder, own_torch):
            print("+", *command, flush=True)
            subprocess.run(command, cwd=ROOT, check=True)
        python = interpreter(folder)
        outcome.versions = versions(python)
        tested(outcome, python, arguments, folder)
    except subprocess.CalledProcessError as error:
        outcome.fault = f"it could not be made: `{' '.join(map(str, error.cmd[:3]))}` failed"
    outcome.minutes = (time.monotonic() - began) / 60
    return outcome


def table(outcomes: Sequence[Outcome]) -> str:
    """A row for each environment in Markdown, and under it what failed."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS)]
    below: list[str] = []
    for outcome in outcomes:
        found = (*outcome.versions, *[""] * (1 + len(SHOWN)))[: 1 + len(SHOWN)]
        counts = outcome.counts
        failed = counts.get("failed", 0) + counts.get("error", 0)
        numbers = (counts.get("passed", 0), failed, counts.get("skipped", 0), f"{outcome.minutes:.1f}")
        rows.append((outcome.name, *found, *map(str, numbers)))
        if outcome.fault is not None:
            below.append(f"- {outcome.name}: {outcome.fault}")
        below += [f"- {outcome.name}: `{failure}`" for failure in outcome.failures]
    return "\n".join(["| " + " | ".join(row) + " |" for row in rows] + (["", *below] if below else []))


def chosen(names: Sequence[str]) -> list[Environment]:
    """The environments of these names, in the order of the table; all where none is named."""
    known = [environment.name for environment in ENVIRONMENTS]
    for name in names:
        if name not in known:
            raise SystemExit(f"'environment' must be one of the table: got {name}; legal: {', '.join(known)}")
    return [environment for environment in ENVIRONMENTS if not names or environment.name in names]


def main(arguments: Sequence[str]) -> int:
    """The command; 1 where an environment did not pass."""
    own, theirs = list(arguments), [f"tests/{name}" for name in CORE]
    if "--" in own:
        at = own.index("--")
        own, theirs = own[:at], own[at + 1 :]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("environment", nargs="*", help=", ".join(each.name for each in ENVIRONMENTS))
    parser.add_argument("--list", action="store_true", help="print names and Pythons as JSON, run nothing")
    parser.add_argument("--jobs", type=int, default=1, help="how many test files run at a time")
    parser.add_argument("--folder", type=Path, help="keep the environments here, to be used again")
    parser.add_argument(
        "--own-torch", action="store_true", help="the package index's torch, not the CPU build"
    )
    options = parser.parse_args(own)
    environments = chosen(options.environment)
    if options.list:
        print(json.dumps([{"name": each.name, "python": each.python} for each in environments]))
        return 0
    if shutil.which("uv") is None:
        raise SystemExit("'uv' must be on the path: it makes the environments; `pip install uv` brings it")
    jobs = ["-n", str(options.jobs), "--dist", "loadfile"] if options.jobs > 1 else []
    outcomes = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for each in environments:
            outcomes.append(run(each, folder.absolute() / each.name, [*jobs, *theirs], options.own_torch))
            if options.folder is None:
                shutil.rmtree(folder / each.name, ignore_errors=True)
    text = table(outcomes)
    print(f"\n{text}")
    if "GITHUB_STEP_SUMMARY" in os.environ:
        with Path(os.environ["GITHUB_STEP_SUMMARY"]).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
    return 0 if all(outcome.passed for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
