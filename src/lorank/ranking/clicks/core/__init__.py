"""The machinery that click models, propensities, debiasers and estimators share."""
