import networkx
import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.consensus import aggregate, from_counts, from_rankings


def random_wins(seed, n=6):
    wins = np.random.default_rng(seed).integers(0, 5, (n, n)).astype(float)
    np.fill_diagonal(wins, 0)
    return wins


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("damping", [0.5, 0.85])
def test_pagerank_equals_networkx(seed, damping):
    wins = random_wins(seed)
    wins[:, 0] = 0
    graph = networkx.DiGraph()
    graph.add_nodes_from("abcdef")
    graph.add_weighted_edges_from(("abcdef"[j], "abcdef"[i], wins[i, j]) for i, j in zip(*np.nonzero(wins)))
    theirs = networkx.pagerank(graph, alpha=damping, tol=1e-14, max_iter=1000)
    ours = aggregate(from_counts("abcdef", wins), "pagerank", damping=damping).scores
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert sum(ours.values()) == pytest.approx(1)


def test_without_damping_all_are_equal():
    assert aggregate(["abc"], "pagerank", damping=0).scores == pytest.approx(dict.fromkeys("abc", 1 / 3))


def test_rank_centrality_of_exact_shares_is_the_strengths():
    pi = np.array([0.4, 0.3, 0.2, 0.1])
    wins = 60 * pi[:, None] / (pi[:, None] + pi[None, :])
    np.fill_diagonal(wins, 0)
    scores = aggregate(from_counts("abcd", wins), "rank-centrality", regularise=0).scores
    assert list(scores.values()) == pytest.approx(pi)
    pulled = aggregate(from_counts("abcd", wins), "rank-centrality", regularise=30).scores
    assert np.ptp(list(pulled.values())) < np.ptp(pi)


def test_rank_centrality_needs_linked_items():
    with pytest.raises(UsageError, match="2 groups.*missing='last'"):
        aggregate(["ab", "cd"], "rank-centrality")
    with pytest.raises(UsageError, match="regularise above 0"):
        aggregate(["ab"], "rank-centrality", regularise=0)
    assert aggregate(["ab", "cd"], "rank-centrality", missing="last").tiers == (("a", "c"), ("b", "d"))


def test_an_unbeaten_item_walks_anywhere():
    scores = aggregate(from_rankings(["ab"]), "pagerank", damping=0.8).scores
    # s_a = 0.1 + 0.8 (s_b + s_a / 2), s_b = 0.1 + 0.8 s_a / 2, s_a + s_b = 1
    assert scores["b"] == pytest.approx((0.1 + 0.4) / 1.4)
