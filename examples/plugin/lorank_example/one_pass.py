"""One pass: compare neighbours once, from the last to the first, and let the better one move up."""

import numpy as np

import lorank
from lorank.ranking.judges import Session
from lorank.ranking.strategies import Standing


@lorank.strategy("one-pass", title="One pass of bubble sort")
def one_pass(session: Session, top: int, generator: np.random.Generator, *, both_orders: bool = True) -> Standing:
    """Return the order after one comparison per neighbour; only the first place is then sure."""
    order = list(range(session.count))
    for place in range(session.count - 1, 0, -1):
        if session.duels([(order[place - 1], order[place])], both_orders)[0] < 0.5:
            order[place - 1], order[place] = order[place], order[place - 1]
        if session.spent:
            break
    return Standing(order)
