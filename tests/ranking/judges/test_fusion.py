"""ListT5's judge: the published texts and reading; what is laid out in another order is answered alike."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, T5ForConditionalGeneration
from transformers.modeling_outputs import BaseModelOutput
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir, write_run
from lorank.errors import UsageError
from lorank.ranking import rerank
from lorank.ranking.judges import Question
from lorank.ranking.judges.fusion import FusionJudge
from lorank.ranking.judges.opening import judge_of
from lorank.ranking.scorers.seq2seq_pretrained import load_encoder_decoder
from tiny_seq2seq import GRADES, make_t5, teach_order, word_tokenizer

FIVE = Question("listwise", (0, 1, 2, 3, 4))
TEXTS = ["the moon", "a list of gold", "clay", "find it , find it", "iron : silver"]


@pytest.fixture(scope="module")
def judge(tiny_fusion):
    return FusionJudge.load(tiny_fusion)


def test_the_texts_are_those_of_the_published_example():
    question = "When did Thomas Edison invent the light bulb?"
    contexts = ["Lightning strike at Seoul National University", "Coffee is good\nfor diet"]
    texts = FusionJudge(torch.nn.Identity(), None, size=2).texts(question, contexts, Question("listwise", (0, 1)))
    assert texts == [
        f"Query: {question}, Index: 1, Context: Lightning strike at Seoul National University",
        f"Query: {question}, Index: 2, Context: Coffee is good for diet",
    ]
    few = FusionJudge(torch.nn.Identity(), None, size=2, words=2).texts(
        question, contexts, Question("listwise", (1, 0))
    )
    assert few[0].endswith("Index: 1, Context: Coffee is")


def test_the_last_index_is_the_most_relevant_and_what_is_wrong_is_left_to_be_repaired(judge):
    assert judge.read(FIVE, "3 1 4 2 5") == [4, 1, 3, 0, 2]
    assert judge.read(FIVE, "3 1 9") == [-1, 0, 2]
    assert judge.read(FIVE, "of the moon") is None
    three = Question("listwise", (7, 8, 9))
    assert judge.shown(three) == [0, 1, 2, 0, 1]
    assert judge.read(three, "3 1 5 2 4") == [0, 1, 2], "the fourth text is the first passage again"
    assert judge.shown(Question("listwise", tuple(range(7)))) == list(range(7))


def test_the_order_in_which_passages_are_laid_out_does_not_matter(judge):
    rows = judge._encode(judge.texts("find it", TEXTS, FIVE))
    (before,) = judge.write([rows])
    assert len(before) > 1
    rng = np.random.default_rng(0)
    for _ in range(6):
        shuffled = [rows[i] for i in rng.permutation(5)]
        assert judge.write([shuffled]) == [before]


def test_one_passage_alone_is_what_t5_answers_to_it(judge):
    row = judge._encode(["Query: find it"])
    model = judge.model
    plain = model.generate(torch.tensor(row), max_new_tokens=3, do_sample=False)[0, 1:].tolist()
    (found,) = judge.write([row])
    assert found == plain[: len(found)]


def test_the_decoder_sees_every_passage(judge):
    rows = judge._encode(judge.texts("find it", TEXTS, FIVE))
    hidden = judge.model.get_encoder()
    ids, mask = judge._grid([rows])
    with torch.no_grad():
        each = [hidden(input_ids=torch.tensor([row])).last_hidden_state for row in rows]
        start = torch.zeros((1, 1), dtype=torch.long)
        fused = BaseModelOutput(last_hidden_state=torch.cat(each, 1))
        logits = judge.model(encoder_outputs=fused, decoder_input_ids=start).logits[0, -1]
    assert judge.write([rows])[0][0] == int(logits.argmax())
    assert mask.sum() == ids.ne(0).sum() == sum(map(len, rows))


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_answers_do_not_depend_on_the_batch(judge, batch_size):
    asked = [FIVE, Question("listwise", (4, 2)), Question("listwise", (3, 1, 0, 2, 4)), Question("listwise", (1, 0))]
    alone = [reply.text for question in asked for reply in judge.answer("find it", TEXTS, [question])]
    other = FusionJudge(judge.model, judge.tokenizer, batch_size=batch_size)
    replies = list(other.answer("find it", TEXTS, asked))
    assert [reply.text for reply in replies] == alone
    assert [reply.tokens_in for reply in replies] == [other.tokens_in("find it", TEXTS, each) for each in asked]
    assert all(reply.tokens_in + reply.tokens_out <= other.tokens("find it", TEXTS, FIVE) for reply in replies[:1])


def test_a_checkpoint_with_the_names_of_its_training_is_read_as_t5(tiny_fusion, tmp_path):
    state = load_file(tiny_fusion / "model.safetensors")

    def wrapped(name):
        if not name.startswith("encoder."):
            return name
        name = f"encoder.{name}"
        head, mark, tail = name.partition(".layer.")
        return f"{head}.module{mark}{tail}" if mark else name

    assert sum(wrapped(name) != name for name in state) > 8
    save_file({wrapped(name): value for name, value in state.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    config = (tiny_fusion / "config.json").read_text().replace("T5ForConditionalGeneration", "FiDT5")
    (tmp_path / "config.json").write_text(config)
    AutoTokenizer.from_pretrained(tiny_fusion).save_pretrained(tmp_path)
    read = load_encoder_decoder(tmp_path).module.state_dict()
    for name, value in T5ForConditionalGeneration.from_pretrained(tiny_fusion).state_dict().items():
        torch.testing.assert_close(read[name], value)


def test_it_answers_listwise_questions_alone_and_its_settings_are_checked(judge):
    assert sorted(rerank("find it", TEXTS, judge, "listt5").order) == [0, 1, 2, 3, 4]
    with pytest.raises(UsageError, match="does not answer setwise questions"):
        rerank("find it", TEXTS, judge, "setwise")
    for settings in ({"size": 1}, {"max_length": 4}, {"batch_size": 0}):
        with pytest.raises(UsageError):
            FusionJudge(judge.model, judge.tokenizer, **settings)
    assert judge.identity != FusionJudge(judge.model, judge.tokenizer, name=judge.name, words=3).identity
    assert FusionJudge(judge.model, judge.tokenizer).identity is None


def test_it_is_asked_from_the_command_line_by_the_tournament(tiny_fusion, texts, tmp_path):
    write_beir(texts, tmp_path / "beir")
    write_run({q: {f"d{i}": 40.0 - i for i in range(12)} for q in texts.test.queries}, tmp_path / "first.run")
    given = ["--data", tmp_path / "beir", "--run", tmp_path / "first.run", "--judge", f"fid:{tiny_fusion}"]

    def run(*more):
        return CliRunner().invoke(app, ["rerank", *map(str, given), "--out", str(tmp_path / "o.run"), *more])

    done = run("--accept-malformed", "--words", "20")
    assert done.exit_code == 0, (done.output, done.exception)
    assert "lorank-listt5" in (tmp_path / "o.run").read_text()
    assert (tmp_path / "o.run.answers.jsonl").exists()
    for more in (["--max-tokens", "9"], ["--prompts", str(tmp_path)], ["--thinking"]):
        refused = run(*more)
        assert isinstance(refused.exception, UsageError)
        assert more[0] in str(refused.exception)


@pytest.mark.slow
def test_a_model_that_was_taught_to_order_five_orders_twenty_by_the_tournament(tmp_path):
    shares = []
    for seed in range(3):
        tokenizer = word_tokenizer()
        model = make_t5(tokenizer, spread=0.0, seed=seed)
        teach_order(model, tokenizer, 500, seed)
        judge = FusionJudge(model, tokenizer)
        rng, right = np.random.default_rng(seed), 0
        for _ in range(10):
            documents = [f"the {GRADES[g]} of" for g in rng.permutation(np.repeat(range(5), 4))]
            done = rerank("find it", documents, judge, "listt5", top=4)
            right += sum("gold" in documents[i] for i in done.order[:4])
        shares.append(right / 40)
    assert min(shares) > 0.7, "a fifth of a random draw of four is gold"


def test_the_name_of_a_judge_opens_it(tiny_fusion):
    opened = judge_of(f"fid:{tiny_fusion}")
    assert isinstance(opened, FusionJudge)
    assert opened.size == 5
