"""The command: a port of this machine alone, a link with a token, one clear line where it cannot be."""

from __future__ import annotations

import builtins
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest

from outstride.cli import main
from outstride.errors import ArgumentError, UnsupportedError

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from outstride.studio.serving import Studio


def test_the_command_serves_its_link_until_it_is_interrupted() -> None:
    command = [sys.executable, "-m", "outstride", "studio", "Conv2d(1, 1, 3)", "5", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        link = re.fullmatch(r"studio: (http://127\.0\.0\.1:\d+/[\w-]{20,}/)\n", process.stdout.readline())
        assert link is not None
        with urllib.request.urlopen(link[1] + "start", timeout=60) as answer:
            assert answer.read() == b'{"layer":"Conv2d(1, 1, 3)","size":"5","model":""}'
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(link[1].rpartition("/")[0][:-3] + "/", timeout=60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "outstride: interrupted\n")


def test_every_studio_has_a_token_and_a_port_of_its_own() -> None:
    first, second = Studio({}), Studio({})
    assert first.token != second.token
    assert first.port != second.port


def test_a_taken_port_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ArgumentError, match="'port' must be free"):
            Studio({}, taken.getsockname()[1])


def test_without_its_libraries_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.partition(".")[0] == "uvicorn":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnsupportedError, match=re.escape("pip install 'outstride[studio]'")):
        Studio({})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["Conv2d(1)"], "'kernel_size' must be given"),
        (["Conv2d(1, 1, 3)", "x"], "'SIZE'"),
        (["--port", "99999"], "port"),
        (["nosuch.module:model"], "nosuch"),
        (["Conv2d(1, 1, 3)", "--input", "1x1x8x8"], "'--input' must be left out beside a layer"),
        (
            ["tests.studio.test_networks:Norms"],
            "'--input' must be given where the model does not take 1x3x224x224",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_served(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["studio", *arguments, "--no-browser"])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
