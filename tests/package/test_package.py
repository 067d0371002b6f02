"""The wheel holds what an installed copy needs: every module, the typing marker, the data, the licence."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import ROOT

PACKAGE = ROOT / "src" / "outstride"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


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


def test_version_is_said_once() -> None:
    import outstride

    assert f'__version__ = "{outstride.__version__}"' in (PACKAGE / "__init__.py").read_text(encoding="utf-8")
    assert f"## [{outstride.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
