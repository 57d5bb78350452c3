"""What to judge next: how informative a candidate is, and which batch of candidates is taken."""

from lorank.ranking.acquisition.batches import STRATEGIES, choose_batch
from lorank.ranking.acquisition.informative import INFORMATIVE
from lorank.ranking.acquisition.tailor import Tailor

__all__ = ["INFORMATIVE", "STRATEGIES", "Tailor", "choose_batch"]
