"""Whatever the three streams are, closed, full, cut short or of few letters: no verb ends in a traceback."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sys
from fcntl import ioctl
from itertools import product
from pathlib import Path
from termios import TIOCSWINSZ

import pytest

COMMAND = [sys.executable, "-m", "outstride"]
SHOWN = "ConvTranspose1d(3, 2, 3, stride=2, padding=1)"
SIZE = f"size '{SHOWN}' 7"
EXPLAIN = f"explain '{SHOWN}'"


def shell(words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a shell, which can close streams."""
    line = f"{sys.executable} -m outstride {words}"
    return subprocess.run(
        ["bash", "-c", line],
        capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment},
    )  # fmt: skip


def terminal(rows: int, columns: int, *arguments: str, **environment: str) -> tuple[int, str]:
    """What a terminal of so many rows and columns is sent."""
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    kept = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
        env={**kept, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(theirs)
    sent = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # Linux's word for the end of a terminal
            break
        if not part:
            break
        sent += part
    os.close(ours)
    return process.wait(), sent.decode()


def unstyled(sent: str) -> str:
    """Without bold and dim letters, which are no colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", sent)


#: Every verb with all three closed, and some with one or two.
CLOSED = [
    *((verb, ">&- 2>&- <&-") for verb in (SIZE, EXPLAIN, "info", "cache", "--help", "solve 7 14")),
    *product((SIZE, EXPLAIN), (">&-", ">&- <&-")),
]


@pytest.mark.parametrize(("verb", "closed"), CLOSED)
def test_streams_may_be_closed(verb: str, closed: str) -> None:
    done = shell(f"{verb} {closed}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_error_that_nobody_hears_stays_in_the_exit_code() -> None:
    for closed in ("2>&-", ">&- 2>&-", "2> /dev/full"):
        for unbuffered in ("", "1"):
            done = shell(f"size 'Conv2d(3, 8, 0)' 7 {closed}", PYTHONUNBUFFERED=unbuffered)
            assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("verb", [SIZE, f"explain '{SHOWN}' 7", "solve 7 14"])
def test_output_without_room_is_one_line(verb: str) -> None:
    said = "outstride: what was to be printed could not be written: No space left on device\n"
    for unbuffered in ("", "1"):
        done = shell(f"{verb} > /dev/full", PYTHONUNBUFFERED=unbuffered)
        assert (done.returncode, done.stderr) == (2, said)


@pytest.mark.parametrize(
    "verb", ["plan --help", f"explain '{SHOWN}' 9", "solve --scale 2 --top 500", "--help"]
)
def test_a_reader_that_has_enough_ends_it_quietly(verb: str) -> None:
    done = shell(f"{verb} | head -n 1; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_letters_that_a_stream_lacks_are_replaced(encoding: str) -> None:
    line = f"{sys.executable} -m outstride explain 'Conv1d(1, 1, 3, padding=1)' 3"
    done = subprocess.run(
        ["bash", "-c", line],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    product = "1*1 + 2*2 + 3*3" if encoding == "ascii" else "1·1 + 2·2 + 3·3"
    assert product in done.stdout.decode(encoding)


def test_what_the_user_wrote_is_escaped_where_it_cannot_be_printed() -> None:
    done = shell("size 'Convé(3)' 7", PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert "got Conv\\xe9" in done.stderr
    assert "Traceback" not in shell("size $'\\xff(3)' 7").stderr


def test_colours_are_the_users_to_choose() -> None:
    layer = ["explain", SHOWN, "--seconds", "0.05"]
    assert "\x1b[30" in terminal(40, 100, *layer)[1]
    for refused in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        code, sent = terminal(40, 100, *layer, **refused)
        assert code == 0
        assert "\x1b[30" not in sent
        assert "[1]" in sent
    assert "\x1b[" in shell("solve 7 14", FORCE_COLOR="1").stdout
    assert "\x1b[" not in shell("solve 7 14").stdout


def test_what_is_too_high_for_a_terminal_is_shown_step_below_step() -> None:
    steps = [f"row {row}:" for row in range(9)]
    code, sent = terminal(24, 80, "explain", "Conv2d(1, 1, 3)", "--view", "matrix", "--seconds", "0.05")
    assert code == 0
    assert all(sent.count(step) == 1 for step in steps)
    assert "\x1b[1A" not in sent  # nothing goes back up: what has left the screen cannot be drawn over
    code, sent = terminal(24, 80, "explain", SHOWN, "--seconds", "0.05")
    assert code == 0
    assert "\x1b[1A" in sent


@pytest.mark.parametrize("question", [["--scale", "2"], ["65", "256"], ["--chain", "64,32,64"]])
@pytest.mark.parametrize("columns", [80, 40])
def test_answers_can_be_read_in_narrow_terminals(question: list[str], columns: int) -> None:
    code, sent = terminal(24, columns, "solve", *question, "--top", "2", NO_COLOR="1")
    sent = unstyled(sent)
    assert code == 0
    words = sent.replace("\r\n", " ").split()
    assert any(f"ConvTranspose2d(kernel_size={k}," in words for k in (4, 5, 8))
    assert max(map(len, sent.splitlines())) <= columns or columns == 40  # one word alone may be longer


def test_wide_terminals_and_pipes_have_the_table() -> None:
    _, sent = terminal(24, 160, "solve", "--scale", "2", "--top", "2", NO_COLOR="1")
    for shown in (unstyled(sent), shell("solve --scale 2 --top 2").stdout):
        assert any(
            {"#", "layer", "sizes", "seams", "ONNX"} <= set(line.split()) for line in shown.splitlines()
        ), shown
