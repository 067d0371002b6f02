"""The tutorials say the same in both languages, and their pictures are the code's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import ROOT
from tests.docs.test_docs import blocks

TUTORIALS = ROOT / "docs" / "tutorials"
PICTURES = ROOT / "docs" / "pictures" / "tutorials"
ENGLISH = sorted((TUTORIALS / "en").glob("*.md"))
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
QUICK_TOPICS = ("convolution", "learning", "transposed", "matrix")


def pictures(page: Path) -> list[str]:
    return PICTURE.findall(page.read_text(encoding="utf-8"))


def test_every_tutorial_is_there_in_both_languages() -> None:
    names = [page.name for page in ENGLISH]
    assert len(names) == 5
    assert names == sorted(page.name for page in (TUTORIALS / "zh").glob("*.md"))


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.stem)
def test_a_translation_holds_the_same_code_and_pictures(page: Path) -> None:
    translation = TUTORIALS / "zh" / page.name
    assert [block[:2] for block in blocks(translation)] == [block[:2] for block in blocks(page)]
    assert pictures(translation) == pictures(page)


@pytest.mark.parametrize("page", ENGLISH, ids=lambda page: page.stem)
def test_a_translation_has_the_same_sections(page: Path) -> None:
    def levels(text: str) -> list[str]:
        return re.findall(r"^#+(?= )", text, flags=re.MULTILINE)

    translation = (TUTORIALS / "zh" / page.name).read_text(encoding="utf-8")
    assert levels(translation) == levels(page.read_text(encoding="utf-8"))


def test_no_picture_lies_about_unused() -> None:
    named = (Path(picture) for page in ENGLISH for picture in pictures(page))
    shown = {picture.name for picture in named if picture.parent.name == PICTURES.name}
    assert {path.name for path in PICTURES.iterdir()} == shown


def drawn(folder: Path, *topics: str) -> list[Path]:
    script = ROOT / "docs" / "pictures" / "make.py"
    command = [sys.executable, str(script), *topics, "--out", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return sorted(folder.iterdir())


def assert_alike(made: Path, kept: Path) -> None:
    """Text may lie a pixel elsewhere in another matplotlib; a number that changed does not pass."""
    new, old = (np.asarray(Image.open(path).convert("RGB"), dtype=float) for path in (made, kept))
    assert new.shape == old.shape
    assert np.abs(new - old).mean() < 0.5, f"{made.name} is not what is in docs: draw it again"


@pytest.mark.slow
def test_quick_pictures_are_what_the_code_draws(tmp_path: Path) -> None:
    for made in drawn(tmp_path, *QUICK_TOPICS):
        assert_alike(made, PICTURES / made.name)


@pytest.mark.parametrize("name", ["short", pytest.param("compiled", marks=pytest.mark.slow, id="compiled")])
def test_the_picture_of_a_guide_is_what_the_code_draws(name: str, tmp_path: Path) -> None:
    script = ROOT / "docs" / "pictures" / f"{name}.py"
    done = subprocess.run(
        [sys.executable, str(script), "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (made,) = tmp_path.iterdir()
    assert_alike(made, ROOT / "docs" / "pictures" / made.name)


def test_the_pictures_command_names_the_legal_topics() -> None:
    script = ROOT / "docs" / "pictures" / "make.py"
    done = subprocess.run(
        [sys.executable, str(script), "nothing"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no such topic: nothing; legal: convolution, learning" in done.stderr
