"""The wheel holds what an installed copy needs: every module, the typing marker, the data, the licence."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests import ROOT

PACKAGE = ROOT / "src" / "outstride"
_ADDRESS = "https://example.org/owner/outstride"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a release: a wheel, and the archive of the sources."""
    folder = tmp_path_factory.mktemp("release")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    environment = {**os.environ, "OUTSTRIDE_REPOSITORY": f"{_ADDRESS}/"}
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120, env=environment)
    return folder


@pytest.fixture
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def test_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    files = (path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if path.is_file())
    wanted = {name for name in files if "/." not in name and "/__pycache__/" not in name}
    assert "outstride/py.typed" in wanted
    assert {name for name in held if ".dist-info/" not in name} == wanted


def test_wheel_is_pure_licensed_and_has_its_command(wheel: Path) -> None:
    assert wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as archive:
        texts = {
            name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name
        }
        assert "licenses/LICENSE" in texts
        assert (
            archive.read(texts["entry_points.txt"]).decode().split("\n")[1]
            == "outstride = outstride.cli:main"
        )
        assert "Requires-Python: >=3.10" in archive.read(texts["METADATA"]).decode()


def test_the_description_has_links_that_work_on_the_index(wheel: Path) -> None:
    import outstride

    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    text = metadata.get_payload()
    assert isinstance(text, str)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"\]\(", text)) == len(re.findall(r"\]\(", readme)) > 10
    assert not re.findall(r"\]\((?!https://|#)[^)]*\)", text)
    assert f"]({_ADDRESS}/blob/v{outstride.__version__}/docs/performance.md)" in text
    assert f"]({_ADDRESS}/raw/v{outstride.__version__}/docs/pictures/studio.gif)" in text
    assert f"Source, {_ADDRESS}" in metadata.get_all("Project-URL", [])


def test_badges_are_of_what_is_there() -> None:
    spec = importlib.util.spec_from_file_location("release_metadata", ROOT / "release" / "metadata.py")
    assert spec is not None
    assert spec.loader is not None
    metadata = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(metadata)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count(metadata.BADGES) == 1
    assert metadata.with_badges(readme, _ADDRESS, "v1.2.3") == readme
    text = metadata.with_badges(readme, "https://github.com/owner/outstride", "v1.2.3")
    checks = "https://github.com/owner/outstride/actions/workflows/checks.yml"
    notebook = "owner/outstride/blob/v1.2.3/examples/super_resolution.ipynb"
    assert f"[![checks]({checks}/badge.svg)]({checks})" in text
    assert f"](https://colab.research.google.com/github/{notebook})" in text
    assert (ROOT / ".github" / "workflows" / "checks.yml").exists()
    assert (ROOT / metadata.NOTEBOOK).exists()


def test_the_sources_build_and_test_themselves(built: Path) -> None:
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    wanted = [
        ".ci/run",
        ".github/workflows/checks.yml",
        "CITATION.cff",
        "LICENSE",
        "README.md",
        "SECURITY.md",
        "bench/layers.csv",
        "ci/versions.py",
        "constraints.txt",
        "release/metadata.py",
        "tests/conftest.py",
    ]
    assert set(wanted) <= held


def test_conda_asks_for_what_the_wheel_asks_for(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(name).decode())
    asked = [Requirement(line) for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    recipe = (ROOT / "release" / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    for requirement in asked:
        name = {"torch": "pytorch"}.get(requirement.name, requirement.name)
        assert f"    - {name} {requirement.specifier}\n" in recipe


def test_version_is_said_once() -> None:
    import outstride

    for other in ("CITATION.cff", "release/conda/recipe.yaml"):
        text = (ROOT / other).read_text(encoding="utf-8")
        assert re.search(rf'^ *version: "?{re.escape(outstride.__version__)}"?$', text, re.MULTILINE), other

    assert f'__version__ = "{outstride.__version__}"' in (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    assert f"## [{outstride.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
