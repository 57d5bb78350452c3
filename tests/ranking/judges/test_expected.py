"""The expected score of a written reply: the sum over scores at the place of its own, 10 included."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.expected import expected_scores, score_place, score_tokens
from planted_selection import line_tokenizer


@pytest.fixture(scope="module")
def bytewise(tiny_causals):
    return AutoTokenizer.from_pretrained(tiny_causals["llama"])


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def by_last_token(table, width):
    """Return a model whose next logits are those of the last token alone: ``table`` {token: {token: logit}}."""

    def next_logits(texts):
        rows = torch.full((len(texts), width), -30.0)
        for row, text in zip(rows, texts):
            for token, logit in table.get(text[-1], {}).items():
                row[token] = logit
        return rows

    return next_logits


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("7", ""),
        ("<think>a 3</think><answer>7</answer>", "<think>a 3</think><answer>"),
        ("<think>7</think> 7", "<think>7</think> "),
        ("about 10.", "about "),
    ],
)
def test_the_place_is_that_of_the_answer_not_of_the_thought(bytewise, text, before):
    assert score_place(bytewise, ids(bytewise, text)) == len(ids(bytewise, before))


@pytest.mark.parametrize("text", ["", "no idea", "<think>7"])
def test_a_reply_without_a_score_has_no_place(bytewise, text):
    assert score_place(bytewise, ids(bytewise, text)) is None


def test_ten_that_is_two_tokens_is_told_from_one(bytewise):
    one, zero, two, prompt = (ids(bytewise, each)[0] for each in ("1", "0", "2", "?"))
    table = {prompt: {one: 0.0, two: 0.0}, one: {zero: 0.0, bytewise.eos_token_id: 0.0}}
    (found,) = expected_scores(by_last_token(table, len(bytewise)), bytewise, [[prompt]], [ids(bytewise, "10")])
    assert found == pytest.approx(0.5 * 2 + 0.25 * 1 + 0.25 * 10, abs=1e-4)


def test_ten_of_its_own_token_counts_as_ten():
    tokenizer = line_tokenizer()
    prompt, seven, ten = ids(tokenizer, "find it\n7\n10")
    assert len(score_tokens(tokenizer, ten)) == 11
    model = by_last_token({prompt: {seven: 0.0, ten: 0.0}}, len(tokenizer))
    (found,) = expected_scores(model, tokenizer, [[prompt]], [[seven]])
    assert found == pytest.approx(8.5, abs=1e-4)


def test_a_judge_weighs_the_score_that_it_writes_and_leaves_others_as_they_are(tiny_causals, bytewise):
    from lorank.ranking.judges.question import Question, Reply

    model = AutoModelForCausalLM.from_pretrained(tiny_causals["llama"])
    judge = CausalJudge(model, bytewise, pointwise="expected", written=("pointwise",), max_tokens=3)
    prompts, written = [[5, 9], [5, 9], [7]], [ids(bytewise, "4"), ids(bytewise, "x"), ids(bytewise, "9")]
    asked = [Question("pointwise", (0,)), Question("pointwise", (1,)), Question("setwise", (0, 1))]
    replies = [Reply(4.0), Reply(None), Reply(1)]
    found = judge._expect(asked, prompts, written, list(replies))
    logits = judge.next_logits([prompts[0]])[0].detach()
    shares = logits[[ids(bytewise, str(digit))[0] for digit in range(10)]].softmax(0)
    zero = judge.next_logits([[*prompts[0], *ids(bytewise, "1")]])[0].detach().softmax(0)[ids(bytewise, "0")[0]]
    wanted = (shares * torch.arange(10.0)).sum() + 9 * zero * shares[1]
    assert found[0].value == pytest.approx(float(wanted), abs=1e-4)
    assert found[1:] == replies[1:]
