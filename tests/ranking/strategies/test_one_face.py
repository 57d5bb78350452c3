"""rankify: every reranker by name on the same documents, one place to register, and the way from question to answer."""

import runpy
from pathlib import Path

import pytest

from lorank.errors import UsageError
from lorank.ranking import Oracle, rerank
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.ranking.strategies import STRATEGIES
from lorank.ranking.strategies.registry import Standing, register_strategy

EXAMPLE = Path(__file__).parents[3] / "examples" / "retrieve_rerank_answer.py"


JUDGES = {
    "oracle": lambda folders: Oracle([3, 0, 1, 0, 2, 0, 0, 1, 0, 0]),
    "bi-encoder": lambda folders: BiEncoder(str(folders["bert"])),
    "cross-encoder": lambda folders: CrossEncoder(str(folders["roberta"]), head="random"),
}


@pytest.mark.parametrize("judge", list(JUDGES))
def test_rankify_every_strategy_runs_by_name_with_every_judge_on_the_same_documents(
    judge, tiny_folders, documents, query
):
    asked = JUDGES[judge](tiny_folders)
    for name in STRATEGIES:
        done = rerank(query, documents, asked, name)
        assert sorted(done.order) == list(range(len(documents))), name
        assert done.usage.calls > 0, name


def test_rankify_a_strategy_is_registered_in_one_place():
    @register_strategy("as-they-came", title="As they came", published=False)
    def as_they_came(session, top, rng):
        return Standing(tuple(range(len(session.documents))))

    try:
        assert rerank("q", ["a", "b"], Oracle([0, 1]), "as-they-came").order == (0, 1)
        with pytest.raises(UsageError, match="as-they-came"):
            rerank("q", ["a"], Oracle([0]), "no such strategy")
    finally:
        del STRATEGIES["as-they-came"]


def test_rankify_from_a_question_to_a_quoted_answer(minilm, capsys):
    example = runpy.run_path(str(EXAMPLE))
    said = example["main"]("How do I sort a list in reverse order?", "setwise", None, depth=8)
    assert len(said.split()) >= 4
    assert "sort" in said.lower() or "order" in said.lower()
    assert "setwise" in capsys.readouterr().out
