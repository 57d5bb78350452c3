"""Calibration: what a score says of relevance, and cut-offs with a guarantee.

A *calibrator* turns scores into probabilities of relevance; a *cut-off* says from which score on documents are kept.
Names load when first used.
"""

import importlib
from typing import Any

_MODULES = ("beta", "histogram", "isotonic", "platt", "temperature")

_HOME_OF = {
    "CALIBRATORS": "calibrator",
    "Calibrator": "calibrator",
    "Labelled": "labelled",
    "fit_calibrator": "fitting",
    "compare_calibrators": "fitting",
    "Calibration": "folder",
    "Threshold": "folder",
    "calibration_error": "errors_of_probabilities",
    "reliability": "errors_of_probabilities",
    "precision_threshold": "guarantees",
    "coverage_cutoff": "guarantees",
    "SFOGD": "sf_ogd",
    "SAOCP": "saocp",
    "NORMALISATIONS": "normalisations",
    "normalise": "normalisations",
}

__all__ = [*_HOME_OF]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        for module in _MODULES if name == "CALIBRATORS" else ():
            importlib.import_module(f"{__name__}.{module}")
        return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
