"""No debiasing: a click is a positive label and anything else a negative one."""

from lorank.ranking.clicks.core.debiaser import ClickBatch, Debiaser, Weights, debiaser


@debiaser("none", title="Naive learning from clicks", published=False)
class Naive(Debiaser):
    """Weighs every document 1."""

    judged = True

    def weigh(self, batch: ClickBatch) -> Weights:
        """Return nothing to change."""
        return Weights()
