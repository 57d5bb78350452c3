"""Calls and rounds of each strategy against the published formulas, and facts of single strategies."""

import math

import numpy as np
import pytest

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking import Oracle, aggregate, rerank
from lorank.ranking.consensus import from_duels
from lorank.ranking.judges import Cache, Judge, Reply
from lorank.ranking.strategies import STRATEGIES
from lorank.ranking.strategies.designs import DESIGNS
from lorank.ranking.strategies.dynamicrag import generator_reward
from lorank.ranking.strategies.heaps import heap_top
from lorank.ranking.strategies.self_consistency import nearest_order
from lorank.ranking.strategies.sorting_cost import sorting_costs
from lorank.ranking.strategies.tally import TALLIES, Comparisons


def usage(name, count, seed=0, **options):
    labels = np.random.default_rng(seed).permutation(count)
    return rerank("q", ["d"] * count, Oracle(labels), name, **options).usage


def dcg_share(labels, order, top=10):
    def gains(chosen):
        return sum(label / math.log2(rank + 2) for rank, label in enumerate(chosen[:top]))

    return gains([labels[d] for d in order]) / gains(sorted(labels, reverse=True))


@pytest.mark.parametrize("n", [2, 9, 40, 100])
def test_calls_that_depend_on_n_alone(n):
    assert usage("pointwise", n).calls == n
    assert usage("full", n).calls == 1
    assert usage("dynamicrag", n).calls == 1
    assert usage("iranker", n).calls == n - 1
    assert usage("grouprank", n, size=7).calls == math.ceil(n / 7)
    assert usage("permutation-self-consistency", n, shuffles=6).calls == 6
    assert usage("prp", n, method="all-pairs").calls == n * (n - 1)
    windows = math.ceil(max(n - 20, 0) / 10) + 1
    assert usage("sliding", n).calls == usage("first", n).calls == windows
    assert usage("sliding", n, passes=3).calls == 3 * windows


def windows(n, size=20, step=10):
    return math.ceil(max(n - size, 0) / step) + 1


PUBLISHED_CALLS = {
    "pointwise": lambda n, k: (n, n),
    "full": lambda n, k: (1, 1),
    "dynamicrag": lambda n, k: (1, 1),
    "permutation-self-consistency": lambda n, k: (20, 20),
    "iranker": lambda n, k: (n - 1, n - 1),
    "grouprank": lambda n, k: (math.ceil(n / 10),) * 2,
    "sliding": lambda n, k: (windows(n),) * 2,
    "first": lambda n, k: (windows(n),) * 2,
    "jointrank": lambda n, k: (math.ceil(3 * n / 20),) * 2,
    "sparse-pairwise": lambda n, k: (n * round((n - 1) / 3),) * 2,
    "prp": lambda n, k: (2 * (n - 1), 4 * n + 4 * (k - 1) * math.log2(n)),
    "setwise": lambda n, k: ((n - 1) / 3, n / 2 + 1 + (k - 1) * (math.log(n, 3) + 1)),
    "listt5": lambda n, k: (math.ceil((n - 1) / 4), n / 4 + math.log(n, 5) + k * (math.log(n, 5) + 1)),
    "top-down": lambda n, k: (1 + math.ceil((n - 20) / 19), 3 * (1 + n / 19)),
}
"""From (documents, wanted) to the least and the most calls of each strategy with its defaults."""


@pytest.mark.parametrize("n", [60, 100, 240])
@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_every_strategy_makes_the_published_number_of_calls(name, n):
    for seed, k in ((0, 1), (1, 10), (2, 10)):
        least, most = PUBLISHED_CALLS[name](n, k)
        assert least <= usage(name, n, seed, top=k).calls <= most


@pytest.mark.parametrize(
    "name",
    ["pointwise", "full", "dynamicrag", "grouprank", "jointrank", "sparse-pairwise", "permutation-self-consistency"],
)
def test_strategies_of_one_round(name):
    assert usage(name, 90).rounds == 1


def test_first_writes_one_token_a_window():
    done = usage("first", 100)
    assert done.tokens_out == done.calls == 9
    assert usage("sliding", 100).tokens_out == 9 * 20


@pytest.mark.parametrize(("n", "k"), [(30, 1), (30, 10), (30, 29), (30, 30)])
def test_prp_sliding_compares_k_passes(n, k):
    calls = usage("prp", n, method="sliding", top=k).calls
    assert calls == 2 * sum(n - i for i in range(1, min(k, n - 1) + 1))
    assert calls <= 2 * k * (n - 1)


@pytest.mark.parametrize("n", [16, 100, 300])
@pytest.mark.parametrize("k", [1, 10])
def test_prp_heapsort_is_within_n_plus_k_log_n(n, k):
    calls = usage("prp", n, top=k, both_orders=False).calls
    assert n - 1 <= calls <= 2 * n + 2 * (k - 1) * math.log2(n)
    assert usage("prp", n, top=k).calls == 2 * calls


def test_prp_asks_both_orders_and_calls_contradictions_a_tie():
    first_wins = Oracle(np.arange(12.0), position_bias=100.0)
    done = rerank("q", ["d"] * 12, first_wins, "prp", method="all-pairs")
    assert done.order == tuple(range(12))
    assert done.scores.tolist() == pytest.approx([5.5] * 12)
    mild = rerank("q", ["d"] * 12, Oracle(np.arange(12.0), position_bias=1.5), "prp", method="all-pairs")
    assert mild.order[0] in (11, 10)
    assert mild.scores[11] == pytest.approx(10.5)


def test_prp_all_pairs_counts_wins():
    done = rerank("q", ["d"] * 4, Oracle([1, 3, 3, 0]), "prp", method="all-pairs")
    assert done.scores.tolist() == pytest.approx([1.0, 2.5, 2.5, 0.0])


@pytest.mark.parametrize("c", [1, 2, 3, 9])
def test_setwise_bubblesort_calls(c):
    n, k = 40, 5
    assert usage("setwise", n, method="bubblesort", size=c + 1, top=k).calls == sum(
        math.ceil((n - i) / c) for i in range(1, k + 1)
    )


def test_setwise_needs_fewer_calls_with_more_children():
    calls = [usage("setwise", 100, size=size).calls for size in (2, 3, 5, 10)]
    assert calls == sorted(calls, reverse=True)


def test_heap_top_counts_its_questions():
    asked = []

    def best_of(family):
        asked.append(family)
        return max(family)

    items = list(range(15))
    assert heap_top(items, 15, 2, best_of, lambda: False) == items[::-1]
    assert all(2 <= len(family) <= 3 for family in asked)
    assert heap_top(items, 3, 2, best_of, lambda: True) == items


def test_listt5_calls_on_a_full_tree():
    m, d = 5, 3
    n = m**d
    leaves = [0, 30, 60, 90, 120]
    labels = np.zeros(n)
    labels[leaves] = [9, 8, 7, 6, 5]
    for k in (1, 3, 5):
        done = rerank("q", ["d"] * n, Oracle(labels), "listt5", top=k, outputs=1)
        assert done.order[:k] == tuple(leaves[:k])
        assert done.usage.calls == (n - 1) // (m - 1) + (k - 1) * d
        kept = rerank("q", ["d"] * n, Oracle(labels), "listt5", top=k, outputs=2).usage
        assert kept.calls == (n - 1) // (m - 1) + (k - 1) * (d - 1)


@pytest.mark.parametrize(("n", "m", "r"), [(125, 5, 1), (125, 5, 2), (100, 5, 2), (81, 3, 2), (1000, 10, 4)])
def test_listt5_plays_every_level_for_the_first_winner(n, m, r):
    labels = np.random.default_rng(n).permutation(n)
    done = rerank("q", ["d"] * n, Oracle(labels), "listt5", top=1, size=m, winners=r, outputs=r)
    matches, held = 0, [min(m, n - start) for start in range(0, n, m)]
    while True:
        matches += sum(size > 1 for size in held)
        if len(held) == 1:
            break
        sent = sum(min(r, size) for size in held)
        held = [min(m, sent - start) for start in range(0, sent, m)]
    assert done.usage.calls == matches
    assert labels[done.order[0]] == n - 1


class Once(Oracle):
    """An oracle that orders one group of documents the wrong way round in its two first places."""

    def _value(self, question):
        said = super()._value(question)
        return [said[1], said[0], *said[2:]] if question.documents == tuple(range(5)) else said


def test_listt5_with_two_winners_forgives_a_judge_that_errs_once():
    labels = [9.0, 8.0, *[0.0] * 23]
    one = rerank("q", ["d"] * 25, Once(labels), "listt5", top=1)
    two = rerank("q", ["d"] * 25, Once(labels), "listt5", top=1, winners=2)
    assert (one.order[0], two.order[0]) == (1, 0)


def test_listt5_caches_outputs_and_grows_like_n_plus_k_log_n():
    for n in (50, 500, 2000):
        calls = usage("listt5", n, top=10).calls
        assert calls <= n / 4 + math.log(n, 5) + 10 * (math.log(n, 5) + 1)
    assert usage("listt5", 100, outputs=5).calls <= usage("listt5", 100, outputs=1).calls


def test_top_down_first_level_and_rounds():
    n, w = 200, 20
    best_first = rerank("q", ["d"] * n, Oracle(np.arange(n, 0, -1)), "top-down", size=w)
    assert best_first.usage.calls == 1 + math.ceil((n - w) / (w - 1))
    assert best_first.usage.rounds == 2


@pytest.mark.parametrize(("n", "k", "r"), [(100, 20, 3), (103, 20, 3), (50, 7, 2), (1000, 32, 5), (10, 4, 1)])
def test_jointrank_equi_replicate(n, k, r):
    done = usage("jointrank", n, size=k, replicates=r)
    assert done.calls == math.ceil(r * n / k)
    assert done.rounds == 1
    for seed in range(5):
        blocks = DESIGNS["equi-replicate"](n, k, r, np.random.default_rng(seed))
        assert np.bincount(np.concatenate(blocks), minlength=n).tolist() == [r] * n
        assert all(len(set(block)) == len(block) <= k for block in blocks)


def meetings(blocks, n):
    table = np.zeros((n, n), int)
    for block in blocks:
        table[np.ix_(block, block)] += 1
    np.fill_diagonal(table, 0)
    return table


@pytest.mark.parametrize(("n", "k", "r"), [(49, 7, 8), (36, 6, 3), (30, 6, 3), (49, 7, 2)])
def test_jointrank_latin_square(n, k, r):
    blocks = DESIGNS["latin-square"](n, k, r, np.random.default_rng(0))
    assert np.bincount(np.concatenate(blocks), minlength=n).tolist() == [r] * n
    assert meetings(blocks, n).max() == 1
    if (n, r) == (k * k, k + 1):
        assert (meetings(blocks, n) + np.eye(n) == 1).all()


def test_jointrank_triangular():
    blocks = DESIGNS["triangular"](45, 9, 0, np.random.default_rng(0))
    assert len(blocks) == 10
    assert {len(block) for block in blocks} == {9}
    assert np.bincount(np.concatenate(blocks)).tolist() == [2] * 45
    assert all(len(set(a) & set(b)) == 1 for i, a in enumerate(blocks) for b in blocks[:i])


@pytest.mark.parametrize("aggregation", sorted(TALLIES))
def test_jointrank_nears_the_truth_as_coverage_grows(aggregation):
    n, quality = 60, []
    for replicates in (1, 4, 30):
        shares = []
        for seed in range(4):
            labels = np.random.default_rng(seed).permutation(n).astype(float)
            done = rerank(
                "q",
                ["d"] * n,
                Oracle(labels),
                "jointrank",
                size=10,
                replicates=replicates,
                aggregation=aggregation,
                seed=seed,
            )
            shares.append(dcg_share(labels, done.order))
        quality.append(np.mean(shares))
    assert quality[0] < quality[1] < quality[2]
    assert quality[-1] > 0.99


@pytest.mark.parametrize("aggregation", sorted(TALLIES))
def test_jointrank_with_every_pair_is_exact_and_one_block_is_listwise(aggregation):
    labels = np.random.default_rng(3).permutation(12)
    exact = tuple(np.argsort(-labels))
    assert (
        rerank("q", ["d"] * 12, Oracle(labels), "jointrank", design="all-pairs", aggregation=aggregation).order == exact
    )
    listwise = rerank("q", ["d"] * 12, Oracle(labels), "jointrank", aggregation=aggregation)
    assert listwise.order == exact
    assert listwise.usage.calls == 1
    labels = np.random.default_rng(3).permutation(49)
    plane = rerank(
        "q",
        ["d"] * 49,
        Oracle(labels),
        "jointrank",
        design="latin-square",
        size=7,
        replicates=8,
        aggregation=aggregation,
    )
    assert plane.order == tuple(np.argsort(-labels))


@pytest.mark.parametrize("sampling", ["global", "neighbourhood", "skip-window"])
@pytest.mark.parametrize("aggregation", [*sorted(TALLIES), "kwiksort"])
def test_sparse_pairwise_with_all_pairs_is_exact(sampling, aggregation):
    labels = np.random.default_rng(4).permutation(17)
    done = rerank(
        "q", ["d"] * 17, Oracle(labels), "sparse-pairwise", sampling=sampling, aggregation=aggregation, share=1.0
    )
    assert done.order == tuple(np.argsort(-labels))
    assert done.usage.calls == 17 * 16


@pytest.mark.parametrize("sampling", ["global", "neighbourhood", "skip-window"])
def test_sparse_pairwise_with_a_third_of_the_pairs(sampling):
    shares, n = [], 50
    for seed in range(8):
        grades = np.random.default_rng(seed).permutation(np.r_[np.zeros(30), np.ones(10), np.full(10, 2)])
        given = np.argsort(-(grades + np.random.default_rng(seed).normal(0, 1, n)))
        labels = grades[given]
        done = rerank("q", ["d"] * n, Oracle(labels), "sparse-pairwise", sampling=sampling, share=1 / 3)
        assert done.usage.calls == n * round((n - 1) / 3)
        shares.append(dcg_share(labels, done.order))
    assert np.mean(shares) > 0.93


def test_tallies_of_a_hand_counted_table():
    games = Comparisons(3, np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([1.0, 0.5, 1.0]))
    assert games.wins().tolist() == pytest.approx([1.5, 1.0, 0.5])
    assert TALLIES["additive"](games).tolist() == pytest.approx([1.0, 0.0, -1.0])
    assert TALLIES["winrate"](games).tolist() == pytest.approx([0.75, 0.5, 0.25])


def test_greedy_takes_the_best_of_what_is_left():
    # 0 beats three weak ones; 4 beats 0 and lost to two that it never meets again once they are taken.
    games = [(0, 1), (0, 2), (0, 3), (4, 0), (1, 4), (2, 4)]
    first, second = np.array(games).T
    comparisons = Comparisons(5, first, second, np.ones(len(games)))
    potential, left, order = dict.fromkeys(range(5), 0), set(range(5)), []
    while left:
        for d in left:
            potential[d] = sum((a == d) - (b == d) for a, b in games if {a, b} <= left)
        order.append(max(sorted(left), key=potential.get))
        left.remove(order[-1])
    assert np.argsort(-TALLIES["greedy"](comparisons)).tolist() == order


def test_bradley_terry_of_two_is_the_odds():
    games = Comparisons(2, np.zeros(4, int), np.ones(4, int), np.array([1.0, 1.0, 1.0, 0.0]))
    strength = TALLIES["bradley-terry"](games, prior=1e-9, tolerance=1e-12, max_iterations=20_000)
    assert strength[0] - strength[1] == pytest.approx(math.log(3), abs=1e-6)


@pytest.mark.parametrize("name", ["pagerank", "bradley-terry"])
def test_scores_of_comparisons_are_those_of_the_consensus_rule(name):
    rng = np.random.default_rng(0)
    a = rng.integers(8, size=60)
    b = (a + rng.integers(1, 8, size=60)) % 8
    outcome = rng.choice([0, 0.5, 1], 60)
    duels = [("abcdefgh"[i], "abcdefgh"[j], o) for i, j, o in zip(a, b, outcome)]
    options = {"prior": 0.05, "tolerance": 1e-12} if name == "bradley-terry" else {}
    scores = aggregate(from_duels(duels), name, **options).scores
    ours = TALLIES[name](
        Comparisons(8, a, b, outcome), **({"tolerance": 1e-12, "max_iterations": 20_000} if options else {})
    )
    assert ours == pytest.approx([scores[item] for item in "abcdefgh"], abs=1e-9)


def test_pagerank_of_two_solves_its_equation():
    games = Comparisons(2, np.array([0]), np.array([1]), np.array([1.0]))
    rank = TALLIES["pagerank"](games)
    sink = 0.85 * rank[0] / 2
    assert rank.sum() == pytest.approx(1)
    assert rank[1] == pytest.approx(0.075 + sink)


def test_grouprank_of_one_is_pointwise_and_of_all_is_listwise():
    labels = np.random.default_rng(5).permutation(23).astype(float)
    pointwise = rerank("q", ["d"] * 23, Oracle(labels), "pointwise")
    alone = rerank("q", ["d"] * 23, Oracle(labels), "grouprank", size=1)
    together = rerank("q", ["d"] * 23, Oracle(labels), "grouprank", size=23)
    assert alone.order == pointwise.order == together.order
    assert alone.scores.tolist() == pointwise.scores.tolist() == together.scores.tolist()
    assert (alone.usage.calls, together.usage.calls) == (23, 1)


def test_first_orders_a_window_by_its_logits():
    logits = [0.3, -2.0, 5.0, 1.0, 0.3]

    class Logits(Judge):
        def answer(self, query, documents, questions):
            yield from (Reply([logits[d] for d in q.documents], 9, 1) for q in questions)

    done = rerank("q", ["d"] * 5, Logits(), "first")
    assert done.order == tuple(np.argsort(-np.array(logits), kind="stable"))
    assert (done.usage.calls, done.usage.tokens_out) == (1, 1)


def test_iranker_removes_the_worst_first():
    pools = []

    class Excluder(Oracle):
        def answer(self, query, documents, questions):
            pools.extend(len(q.documents) for q in questions)
            return super().answer(query, documents, questions)

    labels = np.random.default_rng(6).permutation(12)
    for items in (["a passage"] * 12, ["an article to buy"] * 12, ["a model to route to"] * 12):
        pools.clear()
        done = rerank("q", items, Excluder(labels), "iranker")
        assert done.order == tuple(np.argsort(-labels))
        assert pools == list(range(12, 1, -1))


@pytest.mark.parametrize("n", [27, 60, 100])
@pytest.mark.parametrize("size", [5, 26])
def test_iranker_orders_longer_lists_in_parts_that_fit_a_question(n, size):
    shown = []

    class Excluder(Oracle):
        def answer(self, query, documents, questions):
            shown.extend(len(q.documents) for q in questions)
            return super().answer(query, documents, questions)

    labels = np.random.default_rng(n).permutation(n)
    done = rerank("q", ["a passage"] * n, Excluder(labels), "iranker", size=size)
    assert done.order == tuple(np.argsort(-labels))
    assert max(shown) <= size
    depth = 2 if size == 26 else 3
    assert done.usage.calls <= depth * n + n // size + 1  # a part that lost its worst, and the choices above it


def test_self_consistency_cancels_position_bias():
    labels = np.random.default_rng(7).permutation(20)
    biased = Oracle(labels, position_bias=15.0)
    once = rerank("q", ["d"] * 20, biased, "full").order
    often = rerank("q", ["d"] * 20, biased, "permutation-self-consistency", shuffles=60).order

    def error(order):
        return np.abs(np.argsort(order) - np.argsort(np.argsort(-labels))).mean()

    assert error(often) < 0.5 * error(once)


def test_nearest_order_beats_every_other_order_of_five():
    from itertools import permutations

    rng = np.random.default_rng(8)
    orders = [rng.permutation(5).tolist() for _ in range(7)]

    def distance(order):
        places = np.argsort(order)
        return sum(
            (places[a] - places[b]) * (np.argsort(o)[a] - np.argsort(o)[b]) < 0
            for o in orders
            for a in range(5)
            for b in range(a)
        )

    assert distance(nearest_order(orders)) == min(distance(order) for order in permutations(range(5)))


def test_dynamicrag_drops_distractors_and_may_keep_none():
    labels = [0, 2, 0, 1, 0, 3]
    done = rerank("q", ["d"] * 6, Oracle(labels), "dynamicrag")
    assert done.selected == 3
    assert done.order == (5, 1, 3, 0, 2, 4)
    assert rerank("q", ["d"] * 6, Oracle(labels, threshold=5), "dynamicrag").selected == 0
    assert rerank("q", ["d"] * 6, Oracle(labels, threshold=-1), "dynamicrag").selected == 6


def test_dynamicrag_reward_is_the_weighted_sum():
    parts = {"exact_match": 1.0, "similarity": 0.5, "fluency": 0.25, "length": 10, "judge": 0.75}
    brevity = 1 / (1 + math.log(11))
    weights = (0.4, 0.3, 0.1, 0.1, 0.1)
    assert generator_reward(**parts, weights=weights) == pytest.approx(
        0.4 + 0.3 * 0.5 + 0.1 * 0.25 + 0.1 * brevity + 0.1 * 0.75
    )
    assert generator_reward(**{**parts, "length": 11}) < generator_reward(**parts)
    with pytest.raises(UsageError, match="must be in"):
        generator_reward(**{**parts, "judge": 1.5})


def test_llm_sorting_cost_reproduces_how_the_order_of_sorts_flips():
    rows = {
        (row.sort, row.cached, row.batch_size): row for row in sorting_costs(60, 10, batch_sizes=(1, 2, 32), orders=6)
    }
    assert all(row.exact for row in rows.values())

    def cost(sort, cached, size):
        return rows[sort, cached, size].inferences

    assert all(rows[key].comparisons == rows[key].inferences for key in rows if key[2] == 1)
    assert cost("all-pairs", False, 1) == 60 * 59 / 2
    assert cost("heapsort", False, 1) < cost("sliding", False, 1) < cost("all-pairs", False, 1)
    assert cost("heapsort", False, 1) < 1.15 * cost("quicksort", False, 1)
    assert cost("quicksort", False, 2) < 0.6 * cost("heapsort", False, 2)
    assert cost("all-pairs", False, 32) < cost("heapsort", False, 32)
    assert cost("heapsort", False, 32) == cost("heapsort", False, 1)
    (bubble,) = [
        {row.cached: row.inferences for row in sorting_costs(60, 60, sorts=["sliding"], batch_sizes=[1], orders=3)}
    ]
    assert bubble[True] < 0.65 * bubble[False]


def test_a_cache_answers_what_bubble_sort_asks_again():
    labels = np.random.default_rng(9).permutation(30)
    plain = rerank("q", ["d"] * 30, Oracle(labels), "prp", method="sliding", top=30).usage
    cached = rerank("q", ["d"] * 30, Oracle(labels), "prp", method="sliding", top=30, cache=Cache()).usage
    assert cached.calls + cached.cache_hits == plain.calls
    assert cached.calls < plain.calls


@pytest.mark.parametrize(
    "id", ["prp", "sparse-pairwise", "jointrank", "listt5", "dynamicrag", "llm-sorting-cost", "rank-k"]
)
def test_published_strategies_are_in_the_catalogue(id):
    assert METHODS[id].area == "rerank"


def test_iranker_shows_a_judge_of_letters_no_more_than_it_has_letters_for(tiny_causals):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lorank.ranking.judges.causal import CausalJudge

    folder = tiny_causals["llama"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    judge = CausalJudge(AutoModelForCausalLM.from_pretrained(folder), tokenizer, max_tokens=4)
    assert judge.most_shown("exclude") == 26
    assert judge.most_shown("listwise") is None
    done = rerank("q", [f"d{i}" for i in range(30)], judge, "iranker")
    assert sorted(done.order) == list(range(30))
