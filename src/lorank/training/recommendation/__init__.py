"""Training recommenders of sequences in the one loop, from a log of what users chose."""

from lorank.training.recommendation.learning import train_model
from lorank.training.recommendation.run import train_recommender

__all__ = ["train_model", "train_recommender"]
