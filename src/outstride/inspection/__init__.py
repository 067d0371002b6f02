"""Where every layer of a model looks, what it costs, and which images the model can take."""

from outstride.inspection.checking import check
from outstride.inspection.findings import Fit, Halo
from outstride.inspection.report import Report

__all__ = ["Fit", "Halo", "Report", "check"]
