"""C-3PO: a node's credit is the mean of its leaves, and nothing is retrieved where that is useless."""

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.routing import RoutingTable, ThreeRoles
from lorank.ranking.routing.c_3po import Visit, tree_of
from lorank.ranking.routing.scaling import Scaling

ARMS = ["none", "asked/top1", "asked/top5", "rewritten/top1", "rewritten/top5"]
BELOW = [range(5), range(1, 5), range(1, 3), range(3, 5)]
"""The arms below each node of the tree: the decision, the query, and the documents of each query."""


def planted(seed: int, count: int = 300) -> RoutingTable:
    """Queries that the model knows already, and others that one way of asking and one cut serves."""
    rng = np.random.default_rng([5, seed])
    kind = rng.integers(4, size=count)
    features = np.stack([kind == 0, kind >= 2, kind % 2], 1) * 2.0 + 0.2 * rng.normal(size=(count, 3))
    quality = np.array([[0.9, 0.9, 0.9, 0.9, 0.9], *(0.1 + 0.8 * np.eye(5)[[1, 3, 4]])])[kind]
    return RoutingTable(ARMS, features, quality + 0.03 * rng.normal(size=(count, 5)), np.array([0, 1, 2, 1, 2.0]))


def with_tree(arms: list[str], features: int, branches: int = 2) -> ThreeRoles:
    """A router that has a tree and has learned nothing."""
    made = ThreeRoles(branches=branches)
    made.children = tree_of(arms)
    made.weights = [np.zeros((len(each), features)) for each in made.children]
    return made


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_credit_of_a_node_is_the_mean_of_its_leaves(seed: int) -> None:
    """With 10^a as the utility of arm a, the digits of a sum of leaves say which arms it is of, up to nine of each."""
    made, rng = with_tree(ARMS, 1), np.random.default_rng(seed)
    utility = np.broadcast_to(10.0 ** np.arange(5), (40, 5))
    visits = made.roll_out(np.ones((40, 1)), utility, rng)
    root = visits[-1]
    assert root.node == 0
    assert root.rows.tolist() == list(range(40))
    for visit in visits:
        for child, (below, arm) in enumerate(made.children[visit.node]):
            own = visit.picks == child
            sums = np.rint(visit.credit * visit.leaves)[own].astype(np.int64)
            digits = (sums[:, None] // 10 ** np.arange(5)) % 10
            assert (digits.sum(1) == visit.leaves[own]).all()
            outside = [a for a in range(5) if a not in ([arm] if arm >= 0 else BELOW[below])]
            assert not digits[:, outside].any()
            assert (visit.leaves[own] == (1 if arm >= 0 else 2 ** (2 if below == 1 else 1))).all()


def test_a_role_steps_by_the_lead_of_a_draw_over_its_siblings() -> None:
    """Two draws worth 1 and 0, at equal chances: (1 - 0) (e_1 - 1/2) and (0 - 1) (e_2 - 1/2), halved."""
    made = with_tree(["none", "bm25"], 1)
    visit = Visit(0, np.array([0]), np.array([[0, 1]]), np.array([[1.0, 0.0]]), np.ones((1, 2), np.int64))
    assert made._slope(visit, np.ones((1, 1)))[:, 0] == pytest.approx([0.5, -0.5])
    alike = Visit(0, np.array([0]), np.array([[0, 0]]), np.array([[1.0, 1.0]]), np.ones((1, 2), np.int64))
    assert made._slope(alike, np.ones((1, 1)))[:, 0] == pytest.approx([0.0, 0.0])


def test_each_role_learns_its_part_and_the_table_stays_as_it_was() -> None:
    right, useless = [], []
    for seed in (0, 1, 2):
        table, unseen = planted(seed), planted(seed + 50)
        before = table.quality.copy()
        made = ThreeRoles()
        made.fit(table, 0.1, np.random.default_rng(seed))
        assert np.array_equal(before, table.quality)
        chosen, best = made.choose(unseen.features, 0.1), unseen.oracle(0.1)
        easy = unseen.features[:, 0] > 1
        useless.append((chosen[easy] == 0).mean())
        right.append((chosen[~easy] == best[~easy]).mean())
        assert (chosen[~easy] != 0).mean() > 0.9
    assert np.median(useless) > 0.9
    assert np.median(right) > 0.8


def test_arms_are_paths_through_three_roles() -> None:
    assert tree_of(["bm25", "dense"]) == [[(1, -1)], [(-1, 0), (-1, 1)]]
    assert tree_of(["none"]) == [[(-1, 0)]]
    for arm in ("a/b/c", "a/", "/a"):
        with pytest.raises(UsageError, match="three roles"):
            tree_of(["none", arm])
    made, rng = ThreeRoles(rounds=2), np.random.default_rng(0)
    alone = RoutingTable(["bm25"], np.zeros((3, 2)), np.ones((3, 1)), np.zeros(1))
    made.fit(alone, 0.1, rng)
    assert made.choose(np.zeros((4, 2)), 0.1).tolist() == [0] * 4
    assert isinstance(made.scaling, Scaling)
