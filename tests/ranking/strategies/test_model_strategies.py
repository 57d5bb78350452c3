"""What every strategy that looks into a model promises."""

import inspect

import numpy as np
import pytest

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking import Oracle, rerank
from lorank.ranking.judges import Cache
from lorank.ranking.judges.ranker_judge import RankerJudge
from lorank.ranking.scorers import BiEncoder, CausalRanker, CrossEncoder
from lorank.ranking.strategies import MODEL_STRATEGIES, STRATEGIES, strategy_options
from lorank.ranking.strategies.candidate_list import CandidateList
from lorank.ranking.strategies.runs import Manner, rerank_lists

OTHERS = ["the moon", "sorting words", "language models", "a query and a document"]
OPTIONS = {"anncur": {"queries": OTHERS, "anchors": 3, "reranked": 2}}
MAKE = {
    "e2rank": lambda encoders, causals: BiEncoder(encoders["bert"]),
    "promptreps": lambda encoders, causals: CausalRanker(causals["llama"]),
    "anncur": lambda encoders, causals: CrossEncoder(encoders["bert"], head="random"),
}


@pytest.fixture(scope="module", params=sorted(MODEL_STRATEGIES))
def case(request, tiny_folders, tiny_causals):
    return request.param, MAKE[request.param](tiny_folders, tiny_causals), OPTIONS.get(request.param, {})


def test_each_document_comes_out_once_and_scores_do_not_increase(case, documents, query):
    name, model, options = case
    done = rerank(query, documents, model, name, **options)
    assert sorted(done.order) == list(range(len(documents)))
    assert (np.diff(done.scores[list(done.order)]) <= 0).all()
    assert done.complete
    assert done.usage.calls > 0


@pytest.mark.parametrize("count", [0, 1])
def test_nothing_and_one_document(case, documents, query, count):
    name, model, options = case
    assert rerank(query, documents[:count], model, name, **options).order == tuple(range(count))


def test_same_seed_same_order_and_a_run_is_its_lists_one_by_one(case, documents, query):
    name, model, options = case
    lists = [
        CandidateList(str(i), query, [f"d{j}" for j in part], [documents[j] for j in part])
        for i, part in enumerate([range(6), range(3, 10), range(0)])
    ]
    manner = Manner(name, options=options | ({"anchors": 9} if name == "anncur" else {}))
    whole = [list(rerank_lists(lists, lambda _: RankerJudge(model), manner)) for _ in range(2)]
    assert [one.order for one in whole[0]] == [one.order for one in whole[1]]
    for given, one in zip(lists, whole[0], strict=True):
        alone = rerank(query, given.texts, model, name, **manner.options)
        if (
            one.order != alone.order
        ):  # texts of another batch differ in rounding, and what ties but for that changes places
            own = model.score(query, given.texts)
            np.testing.assert_allclose(own[list(one.order)], own[list(alone.order)], atol=1e-5)
    assert whole[0][0].usage.calls > whole[0][1].usage.calls, "what the lists share is made once"


def test_there_are_no_questions_to_bound_or_keep(case, query):
    name, model, options = case
    for what in ({"budget": "calls=1"}, {"batch_size": 2}, {"cache": Cache()}):
        with pytest.raises(UsageError, match="puts no questions"):
            rerank(query, ["a", "b"], model, name, **what, **options)
    with pytest.raises(UsageError, match=f"strategy '{name}' needs"):
        rerank(query, ["a", "b"], Oracle([0, 1]), name, **options)
    with pytest.raises(UsageError, match="unknown option of strategy"):
        rerank(query, ["a", "b"], model, name, siz=3)


@pytest.mark.parametrize("name", sorted(MODEL_STRATEGIES))
def test_it_is_documented_and_catalogued(name):
    function = MODEL_STRATEGIES[name]
    module = inspect.getmodule(function)
    assert "Paper:" in module.__doc__
    assert "alls:" in module.__doc__
    assert name not in STRATEGIES
    assert METHODS[name].area in ("rerank", "retrieve")
    for option in strategy_options(name):
        assert f"{option}:" in function.__doc__


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("e2rank", {"feedback": -1}, "0 or above"),
        ("e2rank", {"listed": "all"}, "value of listed"),
        ("promptreps", {"weight": 1.5}, "weight must be"),
        ("promptreps", {"terms": 0}, "terms and words"),
        ("anncur", {"queries": OTHERS, "anchors": 0}, "anchors must be 1"),
        ("anncur", {"queries": OTHERS, "reranked": -1}, "reranked 0 or above"),
        ("anncur", {}, "scores from those of other queries"),
    ],
)
def test_wrong_values_are_refused(name, options, message, tiny_folders, tiny_causals):
    with pytest.raises(UsageError, match=message):
        rerank("q", ["a", "b"], MAKE[name](tiny_folders, tiny_causals), name, **options)


def test_promptreps_is_its_hybrid_score_and_anncur_the_exact_order_where_all_is_scored(tiny_folders, documents, query):
    ranker = CrossEncoder(tiny_folders["bert"], head="random")
    done = rerank(query, documents, ranker, "anncur", queries=OTHERS, anchors=4, reranked=len(documents))
    exact = ranker.score(query, documents)
    np.testing.assert_allclose(exact[list(done.order)], np.sort(exact)[::-1], rtol=1e-5, atol=1e-6)
    assert done.usage.calls == len(OTHERS) * len(set(documents)) + len(documents)
