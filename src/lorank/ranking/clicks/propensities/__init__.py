"""Estimators of propensities, one a file: how likely each position is looked at."""

from lorank.ranking.clicks.propensities import harvest, position_based, randomised, regression_em

__all__ = ["harvest", "position_based", "randomised", "regression_em"]
