"""A tiny random T5 as judge: answers equal what its decoder says, batched or not."""

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, T5ForConditionalGeneration

from lorank.errors import UsageError
from lorank.ranking import rerank
from lorank.ranking.judges import Question
from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.encoder_decoder import EncoderDecoderJudge
from lorank.ranking.judges.opening import judge_of
from lorank.ranking.judges.prompts import Asking, Prompts
from lorank.ranking.scorers import BiEncoder

TEXTS = ["sorting a list", "the moon", "low-rank adaptation of large models", "a", "ranking documents by relevance"]
LONG = Question("setwise", (0, 1, 2, 3))


@pytest.fixture(scope="module")
def parts(tiny_t5):
    return T5ForConditionalGeneration.from_pretrained(tiny_t5).eval(), AutoTokenizer.from_pretrained(tiny_t5)


def decoded(parts, judge, question, more=()):
    """The logits that follow the decoder's start and ``more`` tokens, of one question alone."""
    model, tokenizer = parts
    ids = tokenizer(judge.prompt("q", TEXTS, question))["input_ids"]
    assert ids[-1] == tokenizer.eos_token_id
    with torch.no_grad():
        found = model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([[0, *more]]))
    return found.logits[0, -1], len(ids)


def test_short_answers_are_the_logits_of_the_first_decoded_token(parts):
    judge = EncoderDecoderJudge(*parts)
    asked = [Question("pointwise", (2,)), Question("pairwise", (0, 1)), LONG, Question("exclude", (4, 1, 2))]
    replies = list(judge.answer("q", TEXTS, asked))
    expected = []
    for question in asked:
        logits, read = decoded(parts, judge, question)
        expected.append((logits, read))
        assert replies[len(expected) - 1].tokens_in == read
    (yes, no), letters = judge.candidates(asked[0])[0], judge.candidates(LONG)[0]
    assert replies[0].value == pytest.approx(float(expected[0][0][yes] - expected[0][0][no]), abs=1e-4)
    assert replies[1].value == pytest.approx(float(expected[1][0][letters[:2]].softmax(0)[0]), abs=1e-5)
    assert replies[2].value == int(expected[2][0][letters].argmax())
    assert replies[3].value == int(expected[3][0][letters[:3]].argmax())


def test_long_answers_are_decoded_greedily(parts):
    judge, question = EncoderDecoderJudge(*parts, max_tokens=4), Question("listwise", (0, 1, 2))
    (reply,) = judge.answer("q", TEXTS, [question])
    ids = []
    while len(ids) < 4 and parts[1].eos_token_id not in ids:
        ids.append(int(decoded(parts, judge, question, ids)[0].argmax()))
    assert reply.text == parts[1].decode(ids, skip_special_tokens=True)
    assert reply.tokens_out == len(ids)
    assert judge.complete(["sort a list"]) == judge.complete(["sort a list", "the moon orbits"])[:1]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_answers_do_not_depend_on_the_batch(parts, batch_size):
    asked = [Question("pointwise", (i,)) for i in range(5)] + [LONG, Question("listwise", (1, 2))]
    alone = [reply for question in asked for reply in EncoderDecoderJudge(*parts).answer("q", TEXTS, [question])]
    together = list(EncoderDecoderJudge(*parts, batch_size=batch_size).answer("q", TEXTS, asked))
    np.testing.assert_allclose([r.value for r in together[:5]], [r.value for r in alone[:5]], rtol=1e-4, atol=1e-4)
    assert [r.text for r in together[5:]] == [r.text for r in alone[5:]]


def test_strategies_run_by_the_name_of_the_judge(tiny_t5):
    judge = judge_of(f"t5:{tiny_t5}", Asking(Prompts.load(words=4, thinking=True), max_tokens=3, thinking=True))
    assert isinstance(judge, EncoderDecoderJudge)
    assert "setwise" in judge.written
    assert judge.identity != CausalJudge(judge.model, judge.tokenizer, name=str(tiny_t5), max_tokens=3).identity
    plain = judge_of(f"t5:{tiny_t5}", Asking(Prompts.load(words=4), max_tokens=3))
    for name in ("pointwise", "prp", "setwise", "first", "iranker", "listt5", "dynamicrag"):
        assert sorted(rerank("q", TEXTS, plain, name).order) == [0, 1, 2, 3, 4], name


def test_other_models_are_refused_and_told_where_they_belong(tiny_t5, tiny_causals, tiny_folders, tmp_path):
    with pytest.raises(
        UsageError, match="no encoder-decoder .LlamaForCausalLM.; ask a causal language model as causal"
    ):
        judge_of(f"t5:{tiny_causals['llama']}")
    with pytest.raises(UsageError, match="no encoder-decoder .BertModel."):
        judge_of(f"fid:{tiny_folders['bert']}")
    with pytest.raises(UsageError, match="ask it as a judge, t5:BASE or fid:BASE"):
        BiEncoder(tiny_t5)
    with pytest.raises(UsageError, match="no model folder"):
        judge_of(f"t5:{tmp_path / 'nothing'}")
    model = T5ForConditionalGeneration.from_pretrained(tiny_t5)
    state = {name: value for name, value in model.state_dict().items() if "EncDecAttention" not in name}
    model.save_pretrained(tmp_path / "half", state_dict=state)
    AutoTokenizer.from_pretrained(tiny_t5).save_pretrained(tmp_path / "half")
    with pytest.raises(UsageError, match="lacks 8 weights of an encoder-decoder"):
        judge_of(f"t5:{tmp_path / 'half'}")
