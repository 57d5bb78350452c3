"""Training recommenders of sequences in the one loop, from a log of what users chose."""

from lorank.training.recommendation.learning import train_adapters, train_sasrec
from lorank.training.recommendation.run import train_recommender

__all__ = ["train_adapters", "train_recommender", "train_sasrec"]
