"""Where every layer of a model looks, what it costs, and which images the model can take."""

from outstride.inspection.checking import check
from outstride.inspection.report import Fit, Halo, Report

__all__ = ["Fit", "Halo", "Report", "check"]
