"""Estimators of propensities, one a file: how likely each position is looked at."""

from lorank.ranking.clicks.propensities import harvest, pbm_em, randomised, regression_em

__all__ = ["harvest", "pbm_em", "randomised", "regression_em"]
