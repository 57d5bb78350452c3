"""Propensities of the position-based model, read from pairs that were seen at several positions."""

from lorank.ranking.clicks.core.propensity import Propensities, propensity, relative
from lorank.ranking.clicks.core.sessions import Sessions
from lorank.ranking.clicks.models.pbm import PositionBased


@propensity("pbm", title="Examination of the position-based model, from pairs at several positions")
def position_based(sessions: Sessions, *, iterations: int = 300, smoothing: float = 0.0) -> Propensities:
    """Return theta_k / theta_1 of the position-based model; only right where pairs were seen at several positions.

    Args:
        sessions: The log.
        iterations: The most steps of EM.
        smoothing: Views at the mean attraction that are added to each pair.
    """
    model = PositionBased(smoothing).fit(sessions, iterations=iterations, tolerance=1e-9)
    several = int(((sessions.shown_and_clicked()[0] > 0).sum(1) > 1).sum())
    return Propensities(relative(model.examination), "pbm", {"pairs_seen_at_several_positions": several})
