"""Replies of a language model: what was drawn, how likely it was, and which rank of a list each token belongs to."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorank.ranking.policies.writing import Writer
from lorank.training.lists.batches import ListBatch
from lorank.training.policies.drawn import Drawn
from lorank.training.policies.questions import Questioner
from lorank.tuned.policy import WrittenPolicy


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def writer(request, tiny_causals):
    folder = tiny_causals[request.param]
    model = AutoModelForCausalLM.from_pretrained(folder)
    return Writer(model.eval(), AutoTokenizer.from_pretrained(folder), 6)


PROMPTS = [[5, 9, 12], [7, 8, 20, 30, 41], [11]]


def test_a_seed_decides_what_is_drawn_and_greedy_replies_need_none(writer):
    one, same, other = (writer.write(PROMPTS, seed=seed) for seed in (3, 3, 4))
    assert one == same != other
    assert writer.write(PROMPTS) == writer.write(PROMPTS)
    assert all(1 <= len(reply) <= 6 for reply in one)


def test_global_generators_are_left_alone(writer):
    state = torch.random.get_rng_state()
    writer.write(PROMPTS, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_are_those_of_each_reply_read_alone(writer, temperature):
    replies = [[31, 4, 1], [22], [9, 8, 7, 6]]
    found = writer.log_probs(PROMPTS, replies, temperature)
    assert found.mask.sum(1).tolist() == [3, 1, 4]
    for row, (prompt, reply) in enumerate(zip(PROMPTS, replies)):
        logits = writer.model(torch.tensor([[*prompt, *reply]])).logits[0] / temperature
        alone = F.log_softmax(logits.float(), -1)[len(prompt) - 1 : -1].gather(1, torch.tensor(reply)[:, None])[:, 0]
        torch.testing.assert_close(found.logs[row, 4 - len(reply) :], alone, rtol=1e-4, atol=1e-4)
        assert float(found.means()[row].detach()) == pytest.approx(float(alone.mean().detach()), abs=1e-4)


def test_the_entropy_is_between_nothing_and_that_of_an_even_draw(writer):
    replies = [[31, 4, 1], [22], [9, 8, 7, 6]]
    cold, hot = (writer.entropy(PROMPTS, replies, heat) for heat in (0.2, 5.0))
    assert 0 < cold < hot < np.log(writer.model.config.vocab_size) + 1e-4


def test_drawn_replies_come_back_from_tensors():
    drawn = Drawn([[1, 2], [3]], [[4], [5, 6, 7]], torch.tensor([0.5, -0.5]), torch.randn(2, 3), 0.25, 0.9)
    again = Drawn.of_state(drawn.state())
    assert (again.prompts, again.replies) == (drawn.prompts, drawn.replies)
    assert (again.earned, again.temperature) == pytest.approx((0.25, 0.9))
    assert torch.equal(again.advantages, drawn.advantages)


def test_questions_show_a_relevant_document_at_any_place(writer):
    class Held(WrittenPolicy):
        def judge(self, ranker, name=None):
            from lorank.ranking.judges.causal import CausalJudge
            from lorank.ranking.judges.prompts import Prompts

            return CausalJudge(
                writer.model, writer.tokenizer, prompts=Prompts.load(thinking=True), written=("setwise",)
            )

    questioner = Questioner(
        Held("setwise", 3, 9, 6, True).judge(None), "setwise", 3, ["q"], [f"d{i}" for i in range(6)]
    )
    labels = torch.tensor([[0.0, 0.0, 2.0, 0.0, 1.0, 0.0]])
    batch = ListBatch(torch.tensor([0]), torch.arange(6)[None], labels, torch.ones(1, 6, dtype=torch.bool), None)
    places = set()
    for seed in range(40):
        (posed,) = questioner.pose(batch, seed)
        assert posed.asked.size == 3
        assert max(posed.asked.labels) == 2
        places |= posed.asked.best
    assert places == {0, 1, 2}
    even = ListBatch(batch.queries, batch.documents, torch.zeros(1, 6), batch.mask, None)
    assert questioner.pose(even, 0) == []
