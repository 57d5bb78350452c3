"""What every strategy promises, whatever the judge says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.ranking import Oracle, rerank
from lorank.ranking.judges import Budget, Cache, Judge, JudgeError, Reply
from lorank.ranking.strategies import ALIASES, STRATEGIES, strategy_options

VARIANTS = [
    *[("prp", {"method": method}) for method in ("all-pairs", "sliding", "quicksort")],
    ("prp", {"method": "heapsort", "both_orders": False}),
    *[("sparse-pairwise", {"sampling": sampling}) for sampling in ("neighbourhood", "skip-window")],
    *[("sparse-pairwise", {"aggregation": a}) for a in ("winrate", "pagerank", "bradley-terry", "greedy", "kwiksort")],
    ("setwise", {"method": "bubblesort"}),
    ("setwise", {"size": 2}),
    ("sliding", {"size": 4, "step": 2, "passes": 2}),
    ("first", {"size": 4, "step": 2}),
    ("listt5", {"outputs": 1}),
    ("listt5", {"size": 2, "outputs": 2}),
    ("listt5", {"outputs": 5}),
    ("listt5", {"winners": 2}),
    ("listt5", {"size": 3, "winners": 2, "outputs": 3}),
    ("grouprank", {"size": 3, "shuffle": False}),
    ("top-down", {"size": 5}),
    ("top-down", {"size": 5, "cap": 2}),
    *[("jointrank", {"design": d, "size": 12, "replicates": 2}) for d in ("equi-replicate", "random", "latin-square")],
    ("jointrank", {"design": "triangular", "size": 40}),
    ("jointrank", {"design": "all-pairs"}),
    ("permutation-self-consistency", {"shuffles": 3}),
]
EVERY = [*[(name, {}) for name in sorted(STRATEGIES)], *VARIANTS]
every_strategy = pytest.mark.parametrize(("name", "options"), EVERY, ids=str)

INEXACT = {"sparse-pairwise", "jointrank"}
EXACT = [(name, options) for name, options in EVERY if name not in INEXACT and "cap" not in options]


def texts(count):
    return [f"document {i}" for i in range(count)]


def check(done, count):
    assert sorted(done.order) == list(range(count))
    assert done.scores.shape == (count,)
    along = done.scores[list(done.order)]
    assert (along[:-1] >= along[1:]).all()
    assert not np.isnan(along).any()


class Chaotic(Judge):
    """Says whatever it is told to say, in turn."""

    def __init__(self, replies):
        self.replies, self.turn = replies, 0

    def answer(self, query, documents, questions):
        for _ in questions:
            self.turn += 1
            yield Reply(self.replies[self.turn % len(self.replies)])


class Failing(Judge):
    """Answers like the oracle until it breaks."""

    identity = "failing"

    def __init__(self, oracle, after):
        self.oracle, self.left = oracle, after

    def answer(self, query, documents, questions):
        for reply in self.oracle.answer(query, documents, questions):
            if self.left == 0:
                raise JudgeError("the endpoint did not answer for 60 s")
            self.left -= 1
            yield reply


@pytest.mark.parametrize(("name", "options"), EXACT, ids=str)
@pytest.mark.parametrize("count", [2, 3, 7, 19, 40])
def test_a_perfect_oracle_gives_the_exact_top(name, options, count):
    labels = np.random.default_rng(count).permutation(count)
    top = min(10, count, options.get("size", 20) - options.get("step", 10)) if name in ("sliding", "first") else 10
    done = rerank("q", texts(count), Oracle(labels), name, top=top, **options)
    check(done, count)
    assert done.complete
    assert labels[list(done.order[:top])].tolist() == sorted(labels, reverse=True)[:top]


@pytest.mark.parametrize(("name", "options"), EXACT, ids=str)
def test_tied_labels_are_in_order_too(name, options):
    labels = np.random.default_rng(0).integers(0, 3, 30)
    top = min(5, options.get("size", 20) - options.get("step", 10)) if name in ("sliding", "first") else 5
    done = rerank("q", texts(30), Oracle(labels), name, top=top, **options)
    assert labels[list(done.order[:top])].tolist() == sorted(labels, reverse=True)[:top]


@every_strategy
@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_document(name, options, count):
    done = rerank("q", texts(count), Oracle([1.0] * count), name, **options)
    check(done, count)
    assert done.usage.calls <= (1 if count else 0)


@every_strategy
def test_same_texts_are_different_documents(name, options):
    labels = [0, 2, 1, 3, 0]
    done = rerank("q", ["same"] * 5, Oracle(labels), name, cache=Cache(), **options)
    check(done, 5)


@every_strategy
def test_same_seed_same_order(name, options):
    labels = np.random.default_rng(1).permutation(30)
    first, second = (rerank("q", texts(30), Oracle(labels, noise=9.0), name, seed=3, **options) for _ in range(2))
    assert first.order == second.order
    assert first.usage.calls == second.usage.calls


NONSENSE = [None, "??", math.nan, math.inf, -5, 10**9, 0.5, [], [0, 0], [99], [math.nan] * 4, "0,1,2", True, {}, b"12"]


@every_strategy
@pytest.mark.parametrize("nonsense", NONSENSE, ids=repr)
def test_no_document_is_lost_to_one_nonsense(name, options, nonsense):
    done = rerank("q", texts(13), Chaotic([nonsense]), name, **options)
    check(done, 13)
    if nonsense not in (-5, 10**9, 0.5, [], [99]):
        assert done.usage.malformed == done.usage.calls


@settings(max_examples=150, deadline=None)
@given(
    variant=st.sampled_from(EVERY),
    count=st.integers(0, 24),
    top=st.integers(1, 30),
    replies=st.lists(
        st.one_of(
            st.none(),
            st.text(max_size=3),
            st.floats(),
            st.integers(-3, 30),
            st.lists(st.integers(-2, 25), max_size=24),
            st.lists(st.floats(), max_size=24),
        ),
        min_size=1,
        max_size=5,
    ),
    budget=st.one_of(st.none(), st.integers(0, 30)),
    batch=st.one_of(st.none(), st.integers(1, 5)),
)
def test_documents_come_out_exactly_once_whatever_the_judge_says(variant, count, top, replies, budget, batch):
    name, options = variant
    done = rerank(
        "q", texts(count), Chaotic(replies), name, top=top, budget=Budget(calls=budget), batch_size=batch, **options
    )
    check(done, count)
    assert budget is None or done.usage.calls <= budget


@every_strategy
def test_malformed_answers_are_counted(name, options):
    done = rerank("q", texts(20), Oracle(np.arange(20), malformed=1.0), name, **options)
    check(done, 20)
    assert done.usage.malformed == done.usage.calls > 0


@every_strategy
@pytest.mark.parametrize("calls", [0, 1, 2, 5, 17, 60])
def test_a_budget_of_calls_is_kept(name, options, calls):
    labels = np.random.default_rng(2).permutation(40)
    free = rerank("q", texts(40), Oracle(labels), name, **options)
    done = rerank("q", texts(40), Oracle(labels), name, budget=Budget(calls=calls), **options)
    check(done, 40)
    assert done.usage.calls == min(calls, free.usage.calls)
    assert done.complete == (free.usage.calls <= calls)
    if done.complete:
        assert done.order == free.order
    if calls == 0:
        assert done.order == tuple(range(40)) or name == "grouprank"


@every_strategy
def test_a_budget_of_tokens_is_kept(name, options):
    labels = np.random.default_rng(2).permutation(40)
    free = rerank("q", texts(40), Oracle(labels), name, **options)
    for share in (0.0, 0.3, 0.9, 1.0):
        tokens = int(share * free.usage.tokens)
        done = rerank("q", texts(40), Oracle(labels), name, budget=f"tokens={tokens}", **options)
        check(done, 40)
        assert done.usage.tokens <= tokens
        assert done.complete == (share == pytest.approx(1.0))


@every_strategy
def test_a_second_run_on_the_same_cache_costs_nothing(name, options, tmp_path):
    labels = np.random.default_rng(4).permutation(30)
    paid = rerank(
        "q", texts(30), Oracle(labels, noise=3.0, malformed=0.2), name, cache=tmp_path / "answers.jsonl", **options
    )
    again = rerank(
        "q", texts(30), Oracle(labels, noise=3.0, malformed=0.2), name, cache=tmp_path / "answers.jsonl", **options
    )
    assert again.order == paid.order
    assert again.usage.calls == again.usage.tokens == again.usage.batches == 0
    assert again.usage.cache_hits >= paid.usage.calls > 0


@every_strategy
def test_a_judge_that_breaks_is_an_error_and_nothing_is_paid_twice(name, options, tmp_path):
    labels = np.random.default_rng(5).permutation(30)
    whole = rerank("q", texts(30), Failing(Oracle(labels), -1), name, cache=Cache(), **options)
    after = whole.usage.calls // 2
    with pytest.raises(JudgeError, match="did not answer"):
        rerank("q", texts(30), Failing(Oracle(labels), after), name, cache=tmp_path / "answers.jsonl", **options)
    resumed = rerank("q", texts(30), Failing(Oracle(labels), -1), name, cache=tmp_path / "answers.jsonl", **options)
    assert resumed.order == whole.order
    assert resumed.usage.calls == whole.usage.calls - after


@every_strategy
def test_noise_degrades_gracefully(name, options):
    count, runs = 40, 5
    lost = []
    for noise in (0.0, 2.0, 8.0, 1000.0):
        shares = []
        for seed in range(runs):
            labels = np.random.default_rng(seed).permutation(count)
            done = rerank("q", texts(count), Oracle(labels, noise=noise, seed=seed), name, seed=seed, **options)
            shares.append(labels[list(done.order[:10])].mean())
        lost.append(np.mean(shares))
    assert lost[0] >= lost[1] - 0.5 >= lost[2] - 2.0
    assert lost[1] > 0.8 * lost[0] or name in INEXACT
    assert lost[2] > lost[3]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pointwise", {}),
        ("prp", {"method": "all-pairs"}),
        ("full", {}),
        ("iranker", {}),
        ("grouprank", {}),
        ("permutation-self-consistency", {}),
        ("listt5", {}),
        ("setwise", {}),
        ("top-down", {"size": 5}),
        ("dynamicrag", {}),
        ("prp", {"method": "heapsort"}),
        ("prp", {"method": "quicksort"}),
        ("jointrank", {"design": "latin-square", "size": 7, "replicates": 8}),
        ("sparse-pairwise", {"share": 1.0}),
    ],
    ids=str,
)
def test_the_order_of_the_input_does_not_matter(name, options):
    labels = np.random.default_rng(6).permutation(31)
    shuffle = np.random.default_rng(7).permutation(31)
    plain = rerank("q", texts(31), Oracle(labels), name, **options)
    moved = rerank("q", [texts(31)[i] for i in shuffle], Oracle(labels[shuffle]), name, **options)
    assert [int(shuffle[i]) for i in moved.order[:10]] == list(plain.order[:10])


TEN_THOUSAND = [
    ("pointwise", {}),
    ("setwise", {"size": 20}),
    ("sliding", {}),
    ("first", {}),
    ("grouprank", {}),
    ("full", {}),
    ("listt5", {}),
    ("jointrank", {}),
    ("top-down", {}),
    ("sparse-pairwise", {"share": 0.0002}),
    ("prp", {"method": "quicksort"}),
    ("prp", {"method": "heapsort"}),
    ("dynamicrag", {}),
    ("permutation-self-consistency", {"shuffles": 3}),
    pytest.param("iranker", {}, marks=pytest.mark.slow),
    pytest.param("prp", {"method": "sliding", "both_orders": False}, marks=pytest.mark.slow),
    pytest.param("setwise", {"method": "bubblesort"}, marks=pytest.mark.slow),
]


def test_every_strategy_is_given_ten_thousand_documents():
    given = [getattr(case, "values", case)[0] for case in TEN_THOUSAND]
    assert set(given) == set(STRATEGIES)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("prp", {"method": "all-pairs"}),
        ("sparse-pairwise", {}),
        ("jointrank", {"design": "all-pairs"}),
    ],
    ids=str,
)
def test_rounds_that_no_memory_holds_are_refused(name, options):
    with pytest.raises(UsageError, match="in one round, above 2,000,000; rerank fewer documents"):
        rerank("q", [""] * 10_000, Oracle(np.arange(10_000)), name, **options)


@pytest.mark.parametrize(("name", "options"), TEN_THOUSAND, ids=str)
def test_ten_thousand_documents(name, options):
    labels = np.random.default_rng(8).permutation(10_000)
    done = rerank("q", [""] * 10_000, Oracle(labels), name, **options)
    check(done, 10_000)
    if name not in INEXACT:
        assert labels[list(done.order[:10])].tolist() == list(range(9_999, 9_989, -1))


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_a_strategy_is_documented(name):
    module = __import__(STRATEGIES[name].__module__, fromlist=["_"])
    assert "Paper:" in module.__doc__
    assert "alls" in module.__doc__
    for option in strategy_options(name):
        assert option in STRATEGIES[name].__doc__ + module.__doc__


def test_short_names_that_stay():
    stay = "pointwise prp sparse-pairwise setwise sliding full first listt5 grouprank iranker jointrank top-down"
    assert set(stay.split()) <= {*STRATEGIES, *ALIASES}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("slidin", {}, "did you mean 'sliding'"),
        ("sliding", {"window": 3}, "unknown option of strategy 'sliding'"),
        ("sliding", {"size": 4, "step": 4}, "1 <= step < size"),
        ("prp", {"method": "heap"}, "did you mean 'heapsort'"),
        ("setwise", {"size": 1}, "size must be 2"),
        ("setwise", {"method": "x"}, "unknown method"),
        ("listt5", {"outputs": 9}, "outputs <= size"),
        ("listt5", {"winners": 3}, "winners must be from 1 to outputs"),
        ("listt5", {"size": 2, "winners": 2}, "and below size"),
        ("grouprank", {"size": 0}, "size must be 1"),
        ("top-down", {"size": 2}, "size must be 3"),
        ("top-down", {"size": 5, "pivot": 5}, "pivot must be from 2"),
        ("jointrank", {"design": "latin-squares"}, "did you mean 'latin-square'"),
        ("jointrank", {"size": 1}, "size of 2"),
        ("jointrank", {"aggregation": "rank"}, "did you mean 'pagerank'"),
        ("jointrank", {"design": "latin-square", "size": 5}, "holds size.2 = 25 documents, not 40"),
        ("jointrank", {"design": "latin-square", "size": 8, "replicates": 4}, "1 to 3 replicates"),
        ("jointrank", {"design": "triangular", "size": 5}, "needs blocks of"),
        ("sparse-pairwise", {"share": 0.0}, "share must be"),
        ("sparse-pairwise", {"sampling": "near"}, "unknown sampling"),
        ("sparse-pairwise", {"aggregation": "sum"}, "unknown aggregation"),
        ("permutation-self-consistency", {"shuffles": 0}, "shuffles must be"),
    ],
)
def test_wrong_names_and_values_are_refused(name, options, message):
    with pytest.raises(UsageError, match=message):
        rerank("q", texts(40), Oracle(np.arange(40)), name, **options)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"top": 0}, "top must be 1"),
        ({"batch_size": 0}, "batch_size must be 1"),
        ({"budget": "calls:3"}, "cannot read"),
        ({"budget": Budget(calls=3), "judge": "gpt"}, "unknown judge 'gpt'"),
        ({"judge": 3}, "a judge must be"),
        ({"judge": Oracle([1, 2])}, "holds 2 labels for 3 documents"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    judge = settings.pop("judge", Oracle([1, 2, 3]))
    with pytest.raises(UsageError, match=message):
        rerank("q", texts(3), judge, "pointwise", **settings)
