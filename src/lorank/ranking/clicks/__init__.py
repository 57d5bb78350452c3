"""Clicks: models of users, propensities of positions, debiased learning, estimates of a new ranker from an old log."""

from lorank.ranking.clicks import models, propensities
from lorank.ranking.clicks.core.model import CLICK_MODELS, ClickModel, Perplexity, find_click_model
from lorank.ranking.clicks.core.propensity import PROPENSITIES, Clipping, Propensities, estimate_propensities
from lorank.ranking.clicks.core.sessions import SessionBuilder, Sessions, sessions_of
from lorank.ranking.clicks.core.simulation import ShownList, Simulator, attractions

__all__ = [
    "CLICK_MODELS",
    "PROPENSITIES",
    "ClickModel",
    "Clipping",
    "Perplexity",
    "Propensities",
    "SessionBuilder",
    "Sessions",
    "ShownList",
    "Simulator",
    "attractions",
    "estimate_propensities",
    "find_click_model",
    "models",
    "propensities",
    "sessions_of",
]
