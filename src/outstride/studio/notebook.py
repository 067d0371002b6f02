"""The page in a notebook: the same files in a frame, answered by the kernel through a widget's channel.

After ``%load_ext outstride.studio.notebook`` what ``explain``, ``solve`` and ``check`` give shows itself so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from outstride.errors import ArgumentError, OutstrideError, UnsupportedError
from outstride.explanation.explaining import Explanation, explain
from outstride.geometry import Solution, Solutions
from outstride.layer.spec import ConvSpec
from outstride.studio.questions import MOST_NUMBERS
from outstride.studio.replies import questions

if TYPE_CHECKING:
    import torch

    from outstride.inspection import Report
    from outstride.studio.widget import Page

_HEIGHT = "920px"
_REPORT = "outstride.inspection.report.Report"


def live(
    shown: str | ConvSpec | torch.nn.Module | Explanation | Solution | Solutions | Report,
    input_shape: Sequence[int] | None = None,
    *,
    height: str = _HEIGHT,
) -> Page:
    """The studio's page in a cell of Jupyter, Colab or VS Code.

    Args:
        shown: a layer, or one as torch writes it; what ``explain``, ``solve`` or ``check`` gave; a model.
        input_shape: of a model, such as (1, 3, 224, 224); nothing else has one.
        height: of the cell, in the words of CSS.

    Returns:
        A widget. Where no kernel answers it shows what needs none: a layer's first view, a model's report.

    Raises:
        UnsupportedError: anywidget is not installed.
        ArgumentError: what is shown is none of these, a model without a shape, or a report of a model that
            nobody holds any more.

    Law: it shows what ``outstride studio`` shows, by the same files and the same answers.

    Example:
        >>> page = live("ConvTranspose2d(1, 1, 3, stride=2)")  # doctest: +SKIP
    """
    try:
        from outstride.studio.widget import Page
    except ImportError as error:
        raise UnsupportedError(
            f"'live' must have anywidget: {error.name} is not installed; "
            "legal: pip install 'outstride[notebook]'"
        ) from error
    if _is_report(shown):
        return Page(*_of_report(shown, input_shape), height)
    if input_shape is not None:
        return Page(*_of_model(shown, input_shape), height)
    start, still = _of_layer(shown)
    return Page(questions({**start, "model": ""}, {}), still, height)


def _is_report(shown: object) -> bool:
    """Whether it is what `check` gave, without loading torch for what is not."""
    return f"{type(shown).__module__}.{type(shown).__name__}" == _REPORT


def _of_report(report: Any, shape: Sequence[int] | None) -> tuple[dict[str, Callable[..., Any]], str]:
    model = report.checked()
    if model is None:
        raise ArgumentError(
            f"'shown' must be of a model that somebody holds: got a report of {report.model}, which is gone; "
            "legal: a variable for the model, or live(model, input_shape)"
        )
    if shape is not None:
        raise ArgumentError(
            f"'input_shape' must be left out beside a report: got {tuple(shape)}; legal: none"
        )
    return _of_model(model, report.input_shape, report)


def _of_model(
    model: Any, shape: Sequence[int], report: Report | None = None
) -> tuple[dict[str, Callable[..., Any]], str]:
    from outstride.studio.networks import Network

    if not hasattr(model, "state_dict"):
        raise ArgumentError(
            f"'input_shape' must be left out beside what is no model: got {tuple(shape)} "
            f"for {type(model).__name__}; legal: none"
        )
    network = Network(type(model).__name__, model, shape, report)
    still = network.report._repr_html_()
    return questions({"layer": "", "size": "", **network.start()}, network.answers()), still


def _of_layer(shown: Any) -> tuple[dict[str, str], str]:
    """What the page begins with, and a document for those who have no kernel."""
    if isinstance(shown, Solutions):
        if not shown:
            raise ArgumentError("'shown' must hold a layer: got none; legal: a question that has an answer")
        shown = shown[0]
    if isinstance(shown, Solution):
        size = "x".join(map(str, shown.input_size or ()))
        return {"layer": repr(shown.spec), "size": size, "tab": "solver"}, _still(shown.spec)
    if isinstance(shown, Explanation):
        return _numbers(shown), shown.html(next(iter(shown.views)))
    if isinstance(shown, str):
        shown = ConvSpec.parse(shown, "shown")
    if isinstance(shown, ConvSpec):
        return {"layer": repr(shown), "size": ""}, _still(shown)
    spec = ConvSpec.of(shown)
    with suppress(OutstrideError):  # too large to be followed: the page says so
        return _of_layer(explain(shown))
    return {"layer": repr(spec), "size": ""}, ""


def _still(spec: ConvSpec) -> str:
    with suppress(OutstrideError):
        return _of_layer(explain(spec))[1]
    return ""


def _numbers(shown: Explanation) -> dict[str, str]:
    """The layer with the numbers that it was explained with, in the words of the page's link."""
    made = shown.example
    rows = {"x": made.x, "w": made.weight}
    texts = {
        name: ",".join(map(repr, row.ravel().tolist()))
        for name, row in rows.items()
        if row.size <= MOST_NUMBERS
    }
    start = {"layer": repr(shown.spec), "size": "x".join(map(str, made.x.shape)), **texts}
    return {**start, "b": repr(float(made.bias))} if made.bias else start


def load_ipython_extension(ipython: Any) -> None:
    """Show live what ``explain``, ``solve`` and ``check`` give; viewers without widgets keep the HTML."""
    formatter = ipython.display_formatter.mimebundle_formatter
    for kind in (Explanation, Solutions, _REPORT):
        formatter.for_type(kind, _bundle)


def _bundle(shown: Any, **asked: Any) -> Any:
    del asked
    if (isinstance(shown, Solutions) and not shown) or (_is_report(shown) and shown.checked() is None):
        return None
    return live(shown)._repr_mimebundle_()
