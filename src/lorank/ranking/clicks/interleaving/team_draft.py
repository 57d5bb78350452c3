"""Team draft: the rankers take turns, in an order that is drawn for each pair of turns, and own what they put.

Paper: F. Radlinski, M. Kurup and T. Joachims, How Does Clickthrough Data Reflect Retrieval Quality?, CIKM 2008.
"""

from collections.abc import Sequence

import numpy as np

from lorank.ranking.clicks.core.interleave import Interleaved, interleaving


@interleaving("team-draft", title="How Does Clickthrough Data Reflect Retrieval Quality? (team draft)")
def team_draft(first: Sequence[str], second: Sequence[str], length: int, rng: np.random.Generator) -> Interleaved:
    """Return a list in which each document has a team, with credit 1 or -1."""
    documents: list[str] = []
    credit: list[float] = []
    counts = [0, 0]
    while len(documents) < length:
        own = [[d for d in ranking if d not in documents] for ranking in (first, second)]
        if not any(own):
            break
        turn = int(counts[0] > counts[1]) if counts[0] != counts[1] else int(rng.integers(2))
        turn = turn if own[turn] else 1 - turn
        documents.append(own[turn][0])
        credit.append(1.0 if turn == 0 else -1.0)
        counts[turn] += 1
    return Interleaved(documents, credit)
