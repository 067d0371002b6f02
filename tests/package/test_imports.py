"""The public face: importing is light, and every name that the documentation promises is there."""

from __future__ import annotations

import inspect
import os
import pkgutil
import re
import subprocess
import sys
from types import ModuleType

import pytest
import torch

import outstride

HEAVY = ("torch", "llvmlite", "numpy", "rich", "typer")

FUNCTIONAL = [f"{kind}{nd}d" for kind in ("conv", "conv_transpose") for nd in (1, 2, 3)]
LAYERS = [f"{kind}{nd}d" for kind in ("Conv", "ConvTranspose", "MaxPool", "AvgPool") for nd in (1, 2, 3)]
NAMES = {
    "outstride": [
        *("ConvOperator", "ConvSpec", "accelerate", "artifacts", "check", "convert", "errors"),
        *("explain", "fusions", "functional"),
        *("geometry", "kernels"),
        *("nn", "plan", "reference", "restore", "tiling"),
        "__version__",
    ],
    "outstride.nn": LAYERS,
    "outstride.functional": FUNCTIONAL,
    "outstride.geometry": ["output_size", "input_sizes", "phases", "receptive_field"],
    "outstride.reference": [
        "corr2d",
        "trans_conv",
        "pool2d",
        "kernel2matrix",
        "conv",
        "conv_transpose",
        "pool",
    ],
    "outstride.errors": ["OutstrideError"],
}


def run_python(code: str) -> str:
    """The standard output of a fresh interpreter that runs `code` and must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


_WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import outstride
from outstride import geometry, reference
from outstride.cli import main

layer = "ConvTranspose2d(1, 1, 3, stride=2)"
size = geometry.output_size(outstride.ConvSpec.parse(layer), (5, 5))
print(size, len(outstride.explain(layer).views) > 3, callable(reference.conv))
verbs = ["size", layer, "5"], ["solve", "--scale", "2"], ["explain", layer], ["info"], ["plan", layer, "5"]
for verb in verbs:
    try:
        main(verb)
    except SystemExit as stop:
        print("exit", stop.code)
try:
    outstride.accelerate
except ImportError as error:
    print(error)
"""


def test_what_needs_no_torch_runs_without_it_and_the_rest_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH], capture_output=True, text=True, timeout=120, check=False
    )
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "(11, 11) True True"
    assert [line for line in lines if line.startswith("exit")] == ["exit 0"] * 4 + ["exit 2"]
    assert (
        done.stderr == "outstride: 'plan' must have torch, which is not installed; legal: pip install torch\n"
    )


def test_import_loads_nothing_heavy() -> None:
    loaded = run_python("import outstride, sys; print(*sys.modules)").split()
    assert "outstride" in loaded
    assert not set(HEAVY) & set(loaded)


def test_import_loads_one_module_of_ours_and_little_of_pythons() -> None:
    """Quick by what it does: no clock of a busy machine can say so."""
    code = (
        "import sys; before = set(sys.modules); import outstride; print(*sorted(set(sys.modules) - before))"
    )
    loaded = run_python(code).split()
    ours = {name for name in loaded if name.split(".")[0] == "outstride"}
    assert ours == {
        "outstride",
        "outstride.engine",
        "outstride.engine.dispatch",
        "outstride.engine.dispatch.registration",
    }
    assert len(loaded) < 100


def test_geometry_works_where_nothing_heavy_is_installed() -> None:
    blocked = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r})); "
    code = (
        "from outstride import ConvSpec, geometry; "
        "spec = ConvSpec.parse('ConvTranspose2d(64, 32, 4, stride=2, padding=1)'); "
        "print(geometry.output_size(spec, (7, 9)))"
    )
    assert run_python(blocked + code) == "(14, 18)"


def test_command_line_is_reached_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "outstride", "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "COLUMNS": "200", "TERM": "dumb"},
    )
    assert done.returncode == 0, done.stderr
    assert {"demo", "plan", "size", "bench", "cache", "info"} <= set(re.findall(r"[a-z]+", done.stdout))


@pytest.mark.parametrize(
    ("module", "name"),
    [(module, name) for module, names in NAMES.items() for name in names],
)
def test_promised_name_exists(module: str, name: str) -> None:
    holder = __import__(module, fromlist=[name])
    assert hasattr(holder, name), f"{module}.{name}"


def test_every_name_of_all_resolves_and_is_listed() -> None:
    assert set(outstride.__all__) <= set(dir(outstride))
    assert sorted(outstride.__all__) == sorted(NAMES["outstride"])
    for name in outstride.__all__:
        assert getattr(outstride, name) is not None


def test_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from outstride import *", names)
    assert set(outstride.__all__) <= set(names)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'outstride' has no attribute 'no_such_name'"):
        outstride.no_such_name  # noqa: B018
    assert not hasattr(outstride, "__wrapped__")


def test_no_module_takes_the_place_of_a_public_object() -> None:
    """Importing `outstride.x` binds the module to the name x in the package, over any object of that name."""
    modules = {module.name for module in pkgutil.iter_modules(outstride.__path__)}
    objects = {name for name in outstride.__all__ if not isinstance(getattr(outstride, name), ModuleType)}
    assert not modules & objects


def positional_and_keyword_names(function: object) -> tuple[list[str], list[str]]:
    assert callable(function)
    parameters = inspect.signature(function).parameters.values()
    return (
        [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD],
        [p.name for p in parameters if p.kind is p.KEYWORD_ONLY],
    )


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_functional_takes_its_arguments_in_torchs_order(name: str) -> None:
    head = ["input", "weight", "bias", "stride", "padding"]
    if "transpose" in name:
        expected = (
            [*head, "output_padding", "groups", "dilation"],
            ["output_size", "padding_mode", "algorithm"],
        )
    else:
        expected = [*head, "dilation", "groups"], ["padding_mode", "algorithm"]
    assert positional_and_keyword_names(getattr(outstride.functional, name)) == expected


@pytest.mark.parametrize("name", LAYERS)
def test_layer_is_a_subclass_of_torchs(name: str) -> None:
    ours, theirs = getattr(outstride.nn, name), getattr(torch.nn, name)
    assert issubclass(ours, theirs)
    assert ours is not theirs
    arguments = (3,) if "Pool" in name else (2, 4, 3)
    assert repr(ours(*arguments)) == repr(theirs(*arguments))
    ours_takes, theirs_takes = (inspect.signature(layer).parameters for layer in (ours, theirs))
    assert list(ours_takes)[: len(theirs_takes)] == list(theirs_takes)
