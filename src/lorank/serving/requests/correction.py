"""How a cascade's second ranker corrects a list, once the first one has scored all of it.

Slices, queue and cache know nothing of it: the best documents of the list are a second, short list, whose answer is
worked into the first; see `lorank.tuned.second_stage`.
"""

from dataclasses import dataclass, replace

import numpy as np

from lorank.ranking.calibration.folder import Calibration
from lorank.serving.requests.answers import Reranked
from lorank.serving.requests.schemas import Asked
from lorank.tuned.second_stage import best_places, correct_list

SECOND = "\0second"
"""What a cascade's engine calls its second ranker. No client can: names of models are printable."""


@dataclass(frozen=True)
class Correction:
    """The second ranker's part.

    Attributes:
        depth: How many of a list's documents it reads.
        factor: Its weight over the spread of its scores, above 0.
        calibration: From final scores to probabilities; None where there is none.
    """

    depth: int
    factor: float
    calibration: Calibration | None = None

    @property
    def certifies(self) -> bool:
        """Whether there is a certified threshold."""
        return self.calibration is not None and self.calibration.threshold is not None

    def best(self, first: Reranked) -> np.ndarray:
        """Return the places of the documents that the second ranker reads, best first."""
        return best_places(first.scores, self.depth)

    def question(self, asked: Asked, places: np.ndarray) -> Asked:
        """Return the request for one of the rankers: the documents at ``places``, without thresholds."""
        documents = [asked.documents[place] for place in places]
        return replace(asked, documents=documents, certified=False, threshold=None)

    def apply(self, first: Reranked, best: np.ndarray, second: Reranked) -> Reranked:
        """Return the corrected scores.

        Args:
            first: The first ranker's scores of the list.
            best: The places that the second ranker has read.
            second: Its scores of them.

        Returns:
            The final scores and their probabilities. A document that either ranker has cut counts as cut once at
            least: the larger of both numbers stands.
        """
        scores = correct_list(first.scores, best, second.scores, self.factor).astype(np.float32)
        probabilities = above = None
        if self.calibration is not None:
            probabilities = self.calibration(scores)
            if (threshold := self.calibration.threshold) is not None:
                above = scores >= np.float32(threshold.score)
        tokens, truncated = first.tokens + second.tokens, max(first.truncated, second.truncated)
        return Reranked(scores, probabilities, tokens, truncated, above)
