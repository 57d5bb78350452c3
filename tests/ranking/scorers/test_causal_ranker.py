"""Causal rankers: each view against the model's own logits, prompts as the judge asks them, and what is refused."""

import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from lorank.errors import LorankError, UsageError
from lorank.ranking.judges import Question
from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.scorers import CausalRanker, CrossEncoder
from lorank.ranking.scorers.causal_pretrained import is_causal
from tiny_causals import causal_tokenizer, llama, write_causal

QUERY = "how are lists sorted"
TEXTS = ["sorting a list", "the moon", "", "a list, sorted in place, of words" * 3]
each = pytest.mark.parametrize("name", ["llama", "qwen2"])


def log_likelihood(folder, answer):
    """The sum of the log-probabilities of an answer and the end token, one text at a time, without padding."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUERY}], tokenize=False, add_generation_prompt=True
    )
    prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
    reply = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with torch.no_grad():
        logs = model(torch.tensor([prompt + reply])).logits[0].log_softmax(1)
    return sum(float(logs[len(prompt) + i - 1, token]) for i, token in enumerate(reply))


@each
def test_a_log_ratio_is_beta_times_the_change_of_the_answers_likelihood(tiny_causals, name, tmp_path):
    ranker = CausalRanker(tiny_causals[name], view="log-ratio", beta=0.3)
    assert (ranker.score(QUERY, TEXTS) == 0).all()
    before = {key: value.clone() for key, value in ranker.module.state_dict().items()}

    @contextmanager
    def reference():
        now = {key: value.clone() for key, value in ranker.module.state_dict().items()}
        ranker.module.load_state_dict(before)
        yield
        ranker.module.load_state_dict(now)

    ranker.reference = reference
    with torch.no_grad():
        for parameter in ranker.module.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    ranker.module.save_pretrained(tmp_path / "policy")
    ranker.tokenizer.save_pretrained(tmp_path / "policy")
    expected = [
        0.3 * (log_likelihood(tmp_path / "policy", text) - log_likelihood(tiny_causals[name], text)) for text in TEXTS
    ]
    np.testing.assert_allclose(ranker.score(QUERY, TEXTS), expected, rtol=1e-4, atol=1e-4)
    inputs = ranker.prepare([QUERY], TEXTS)
    grid = torch.arange(4).unsqueeze(0), torch.ones(1, 4, dtype=torch.bool)
    scores = ranker.forward(inputs, torch.tensor([0]), *grid)
    np.testing.assert_allclose(scores.detach()[0].numpy(), expected, rtol=1e-4, atol=1e-4)
    scores.sum().backward()


@each
@pytest.mark.parametrize("view", ["yes-no", "expected"])
def test_asking_views_score_as_the_judge_does(tiny_causals, name, view):
    ranker = CausalRanker(tiny_causals[name], view=view)
    judge = CausalJudge(
        AutoModelForCausalLM.from_pretrained(tiny_causals[name]),
        AutoTokenizer.from_pretrained(tiny_causals[name]),
        pointwise=view,
    )
    texts = [text for text in TEXTS if text]
    replies = judge.answer(QUERY, texts, [Question("pointwise", (d,)) for d in range(len(texts))])
    np.testing.assert_allclose(ranker.score(QUERY, texts), [reply.value for reply in replies], rtol=1e-4, atol=1e-4)


@each
def test_a_head_is_what_transformers_reads_from_the_saved_folder(tiny_causals, name, tmp_path):
    ranker = CausalRanker(tiny_causals[name], view="head")
    assert (ranker.score(QUERY, TEXTS) == 0).all()
    assert [name for name, _ in ranker.head_parameters()] == ["score.weight"]
    with torch.no_grad():
        ranker.module.score.weight.normal_(generator=torch.Generator().manual_seed(0))
    ranker.save(tmp_path / "reward")
    peer = AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "reward")
    said = [[{"role": "user", "content": QUERY}, {"role": "assistant", "content": text}] for text in TEXTS]
    with torch.no_grad():
        expected = [
            peer(
                torch.tensor([tokenizer(tokenizer.apply_chat_template(turns, tokenize=False))["input_ids"]])
            ).logits.item()
            for turns in said
        ]
    np.testing.assert_allclose(ranker.score(QUERY, TEXTS), expected, rtol=1e-4, atol=1e-5)
    again = CausalRanker.load(tmp_path / "reward")
    assert not list(again.head_parameters())


def test_a_log_ratio_cannot_be_saved_without_its_adapter(tiny_causals, tmp_path):
    with pytest.raises(LorankError, match="save that"):
        CausalRanker(tiny_causals["llama"], view="log-ratio").save(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_a_classifier_is_not_read_as_a_language_model(tiny_causals, tmp_path):
    CausalRanker(tiny_causals["llama"], view="head").save(tmp_path / "reward")
    for view in ("yes-no", "log-ratio"):
        with pytest.raises(UsageError, match="drawn at random"):
            CausalRanker(tmp_path / "reward", view=view)
    config = llama()
    config.num_labels = 3
    model = AutoModelForSequenceClassification.from_config(config)
    model.save_pretrained(tmp_path / "three")
    causal_tokenizer().save_pretrained(tmp_path / "three")
    with pytest.raises(UsageError, match="3 labels"):
        CausalRanker(tmp_path / "three", view="head")


def test_a_body_without_its_head_and_an_encoder_are_refused(tiny_causals, tiny_folders, tmp_path):
    shutil.copytree(tiny_causals["llama"], tmp_path / "body")
    model = AutoModelForCausalLM.from_pretrained(tiny_causals["llama"])
    model.model.save_pretrained(tmp_path / "body")
    with pytest.raises(UsageError, match=r"language-model head|lacks"):
        CausalRanker(tmp_path / "body")
    with pytest.raises(UsageError, match="no causal language model"):
        CausalRanker(tiny_folders["roberta"])
    with pytest.raises(UsageError, match="--kind causal"):
        CrossEncoder(tiny_causals["llama"])
    assert is_causal(tiny_causals["llama"])
    assert not is_causal(tiny_folders["roberta"])


def test_a_chat_model_without_its_template_is_refused(tmp_path):
    plain = write_causal(tmp_path / "tiny-base", llama(), chat=False)
    assert CausalRanker(plain).template.before  # no sign of a chat model: a plain prompt
    named = write_causal(tmp_path / "tiny-instruct", llama(), chat=False)
    with pytest.raises(UsageError, match=r"without its chat template.*chat_template.jinja"):
        CausalRanker(named)
    assert CausalRanker(named, chat="off").score(QUERY, TEXTS).shape == (4,)
    turned = write_causal(tmp_path / "turned", llama(), chat=False)
    causal_tokenizer(chat=False, words=("Yes", "No", "<|im_start|>")).save_pretrained(turned)
    with pytest.raises(UsageError, match="im_start"):
        CausalRanker(turned)
    with pytest.raises(UsageError, match="without its chat template"):
        CausalRanker(plain, chat="on")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"view": "maybe"}, "choose one of"),
        ({"beta": 0.0}, "beta"),
        ({"answers": ("Yes",)}, "two words"),
        ({"answers": ("Certainly", "No")}, "not one token"),
        ({"max_length": 20}, "max_length"),
        ({"prompt": "$documents before $query"}, "each once"),
        ({"view": "head", "prompt": "$query $documents"}, "asks"),
        ({"chat": "perhaps"}, "choose auto"),
        ({"dtype": "int8"}, "dtype"),
        ({"max_length": 10**6}, "max_length"),
    ],
)
def test_wrong_options_are_refused(tiny_causals, options, message):
    with pytest.raises(UsageError, match=message):
        CausalRanker(tiny_causals["llama"], **options)


def test_long_texts_are_cut_and_counted(tiny_causals):
    ranker = CausalRanker(tiny_causals["llama"], view="head", head="random", max_length=60)
    long = "a list of words " * 20
    assert ranker.truncation([QUERY], ["short", long]).truncated == 1
    room = ranker.room - len(QUERY)
    scores = ranker.score(QUERY, [long, long[:room], long[: room - 1]])
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)
    assert scores[0] != pytest.approx(scores[2], abs=1e-6)


def test_a_prompt_of_ones_own_and_other_answers(tiny_causals):
    """ProRank reads the digits: logit(1) - logit(0), which rises with P(1)."""
    ranker = CausalRanker(tiny_causals["llama"], answers=("1", "0"), prompt="$query | $documents | 1 or 0?")
    model, tokenizer = ranker.module, ranker.tokenizer
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": f"{QUERY} | {TEXTS[0]} | 1 or 0?"}], tokenize=False, add_generation_prompt=True
    )
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer(text)["input_ids"]])).logits[0, -1]
    one, zero = (tokenizer.encode(digit)[0] for digit in "10")
    assert float(ranker.score(QUERY, TEXTS[:1])[0]) == pytest.approx(float(logits[one] - logits[zero]), abs=1e-4)
