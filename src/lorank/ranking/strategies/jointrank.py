"""JointRank: overlapping blocks are ranked in parallel, and what they imply is aggregated to one order.

A block design puts each document in r blocks of k; each block is one listwise question, all of them one round. A
block that ranks i before j implies one comparison that i won; the comparisons are scored by win rate, PageRank or
Bradley-Terry strength. Calls: ceil(r n / k) for ``equi-replicate``.

Paper: Dedov, JointRank: Rank Large Set with Single Pass, 2025.
"""

import numpy as np

from lorank.errors import UsageError, unknown_name
from lorank.ranking.judges import Session
from lorank.ranking.strategies.designs import DESIGNS
from lorank.ranking.strategies.registry import Standing, by_score, check_round, register_strategy
from lorank.ranking.strategies.tally import TALLIES, Comparisons


@register_strategy("jointrank", title="JointRank: Rank Large Set with Single Pass")
def jointrank(
    session: Session,
    top: int,
    generator: np.random.Generator,
    *,
    design: str = "equi-replicate",
    size: int = 20,
    replicates: int = 3,
    aggregation: str = "pagerank",
) -> Standing:
    """Order by blocks of ``size`` documents, each document in ``replicates`` of them; one block if all fit in it.

    Args:
        session: The questions to the judge about one query's documents, with its cache and its budget.
        top: It is not used; the whole list is ordered.
        generator: The source of the blocks.
        design: The name of a block design in ``designs.DESIGNS``.
        size: The number of documents in a block, 2 or more.
        replicates: The number of blocks in which each document stands, 1 or more.
        aggregation: The name of a rule in ``tally.TALLIES``.

    Raises:
        UsageError: If a name is not known, or a number is out of its range.
    """
    if design not in DESIGNS:
        raise unknown_name("design", design, DESIGNS)
    if aggregation not in TALLIES:
        raise unknown_name("aggregation", aggregation, TALLIES)
    if size < 2 or replicates < 1:
        raise UsageError(f"blocks need a size of 2 or more and 1 replicate or more, got {size} and {replicates}")
    if session.count <= size and design != "all-pairs":
        return Standing(session.orders([range(session.count)])[0])
    if design == "all-pairs":
        check_round(session.count * (session.count - 1) // 2, "jointrank with design all-pairs")
    blocks = DESIGNS[design](session.count, size, replicates, generator)
    orders = session.orders_within_budget([block for block in blocks if len(block) > 1])
    scores = TALLIES[aggregation](Comparisons.of_orders(session.count, orders)).tolist()
    return Standing(by_score(scores), scores)
