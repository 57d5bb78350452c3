r"""How often a document is clicked that nobody looked for: what a click rate has to rise above to say something.

With a_d the clicks per look of a pair d (a query and a document), and e the rate at which irrelevant documents are
clicked,

    a_d = e + (1 - e) r_d,   a_d - e ~ r_d,

so that labels are unbiased up to a factor once e is taken off: an affine correction, w_k (c - e theta_k) for a view at
position k, with w_k = 1 / theta_k where weights are not clipped. Without that every document of a list is a target, and
a ranker learns to give all of them the same score.

e is the lower quartile of a_d over views. It is 0 where a quarter of what was shown never had a click, such as where
few views are known of a pair, and taking it off never exchanges two documents.

Paper: A. Vardasbi, H. Oosterhuis, M. de Rijke, When Inverse Propensity Scoring does not Work: Affine Corrections for
Unbiased Learning to Rank, CIKM 2020.

*Deviations*: the paper has theta and both error rates from elsewhere; here the rate of irrelevant clicks is read from
the log, and relevant documents are taken to be clicked whenever they are looked at, which is a factor.
"""

import numpy as np

from lorank.errors import UsageError
from lorank.ranking.clicks.core.sessions import Sessions

AUTO = "auto"
QUANTILE = 0.25


def check_noise(noise: float | str) -> None:
    """Raise UsageError for a noise that is neither "auto" nor a rate from 0 to below 1."""
    if noise != AUTO and not (isinstance(noise, int | float) and 0 <= noise < 1):
        raise UsageError(
            f"noise is {noise!r}; it is auto, or how often an irrelevant document is clicked, 0 to below 1"
        )


def click_noise(sessions: Sessions, examination: np.ndarray) -> float:
    """Return how often a document is clicked that nobody looked for, from 0 to 1.

    Args:
        sessions: The log.
        examination: float64 [k], how likely each position is looked at, relative to the first; beyond its end as
            the last.

    >>> from lorank.ranking.clicks.core.sessions import sessions_of
    >>> rows = [("q", ["a", "b", "c"], [1, 0, 0]), ("q", ["a", "b", "c"], [1, 1, 1])] * 100
    >>> click_noise(sessions_of(rows), np.ones(3))
    0.5
    """
    shown, clicked = sessions.shown_and_clicked()
    looks = shown @ examination[np.minimum(np.arange(sessions.positions), len(examination) - 1)]
    rate = np.divide(clicked.sum(1), looks, out=np.zeros_like(looks), where=looks > 0)
    order = np.argsort(rate)
    views = shown.sum(1)[order].cumsum()
    return float(min(rate[order][np.searchsorted(views, QUANTILE * views[-1])], 1.0))
