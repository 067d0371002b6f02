"""What is said to a question of the page, whoever carried it here: HTTP or the channel of a widget."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from outstride.errors import OutstrideError
from outstride.studio.answers import ANSWERS
from outstride.studio.saving import Picture, picture

_LOG = logging.getLogger("outstride.studio")

Question = Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """An answer as bytes, in the words of HTTP."""

    status: int
    media_type: str
    content: bytes


def questions(
    start: Mapping[str, Any], more: Mapping[str, Callable[[Question], Any]]
) -> dict[str, Callable[[Question], Any]]:
    """What may be asked, by its path.

    Args:
        start: what the page is to show first, as plain values.
        more: answers besides those to what is asked of layers: to questions of a model.
    """
    asked = {f"ask/{name}": answer for name, answer in {**ANSWERS, **more}.items()}
    return {"start": lambda _: dict(start), "save": picture, **asked}


def reply(answer: Callable[[Question], Any], question: Question) -> Reply:
    """Answer: whatever becomes of one question, the page lives on."""
    try:
        return _told(answer(question))
    except OutstrideError as error:
        return refusal(422, str(error))
    except MemoryError:
        return refusal(422, "this machine has not the memory for these sizes")
    except Exception as error:  # noqa: BLE001
        _LOG.exception("a question could not be answered")
        return refusal(
            500, f"this question could not be answered ({type(error).__name__}); the terminal says more"
        )


def refusal(status: int, sentence: str) -> Reply:
    """Why there is no answer."""
    return _told({"error": sentence}, status)


def _told(made: Any, status: int = 200) -> Reply:
    if isinstance(made, Picture):
        return Reply(status, made.media_type, made.content)
    text = json.dumps(made, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Reply(status, "application/json", text.encode())
