"""Learning while clicks come in: gossip among peers, delayed feedback, and documents whose clicks promise too much."""

from lorank.ranking.clicks.online.clickbait import ClickbaitScreen
from lorank.ranking.clicks.online.dual_averaging import DelayedDualAveraging
from lorank.ranking.clicks.online.gossip import Peer

__all__ = ["ClickbaitScreen", "DelayedDualAveraging", "Peer"]
