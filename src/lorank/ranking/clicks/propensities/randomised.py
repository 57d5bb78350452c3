r"""Propensities from randomised positions: where documents were shuffled, click rates differ by position alone.

    p_k = CTR_k / CTR_1

Paper: T. Joachims, A. Swaminathan and T. Schnabel, Unbiased Learning-to-Rank with Biased Feedback, WSDM 2017 (there
with swaps of pairs of positions).
"""

from lorank.ranking.clicks.core.propensity import Propensities, propensity, relative
from lorank.ranking.clicks.core.sessions import Sessions


@propensity("randomised", title="Click rates of a log whose positions were drawn at random")
def randomised(sessions: Sessions) -> Propensities:
    """Return the click rates by position relative to the first; only right where positions were drawn at random.

    >>> from lorank.ranking.clicks.core.sessions import sessions_of
    >>> randomised(sessions_of([("q", ["a", "b"], [1, 1]), ("q", ["b", "a"], [1, 0])])).curve.tolist()
    [1.0, 0.5]
    """
    return Propensities(relative(sessions.click_rates()), "randomised")
