"""monoT5 and duoT5: the published prompts, and answers that are the logits of true and false."""

import pytest
import torch
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir, write_run
from lorank.errors import UsageError
from lorank.ranking import rerank
from lorank.ranking.judges import Question
from lorank.ranking.judges.monot5 import DuoT5Judge, MonoT5Judge
from lorank.ranking.judges.opening import judge_of
from tiny_seq2seq import make_t5, word_tokenizer

TEXTS = ["gold of the moon", "iron list", "a clay list of the moon"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random T5 whose tokenizer knows true and false."""
    tokenizer = word_tokenizer()
    tokenizer.add_tokens(["true", "false"])
    made = tmp_path_factory.mktemp("monot5")
    make_t5(tokenizer).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


def logits_of(judge, prompt):
    """The logits of true and false that follow the decoder's start."""
    ids = judge.tokenizer(prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        row = judge.model(input_ids=ids, decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits[0, -1]
    return row[judge.tokenizer.convert_tokens_to_ids(["true", "false"])]


def test_the_prompts_are_the_published_ones(folder):
    one, two = MonoT5Judge.load(folder, words=2), DuoT5Judge.load(folder)
    assert one.prompt("find it", TEXTS, Question("pointwise", (0,))) == "Query: find it Document: gold of Relevant:"
    said = two.prompt("find it", TEXTS, Question("pairwise", (1, 0)))
    assert said == "Query: find it Document0: iron list Document1: gold of the moon Relevant:"


def test_answers_are_those_of_true_and_false(folder):
    one, two = MonoT5Judge.load(folder), DuoT5Judge.load(folder)
    (score,) = one.answer("find it", TEXTS, [Question("pointwise", (2,))])
    true, false = logits_of(one, "Query: find it Document: a clay list of the moon Relevant:").tolist()
    assert score.value == pytest.approx(true - false, abs=1e-4)
    (chance,) = two.answer("find it", TEXTS, [Question("pairwise", (0, 1))])
    pair = logits_of(two, "Query: find it Document0: gold of the moon Document1: iron list Relevant:")
    assert chance.value == pytest.approx(float(pair.softmax(0)[0]), abs=1e-4)


def test_pointwise_ranks_by_the_probability_of_true_and_each_answers_its_kind_alone(folder):
    judge = judge_of(f"monot5:{folder}")
    chances = [float(logits_of(judge, f"Query: find it Document: {text} Relevant:").softmax(0)[0]) for text in TEXTS]
    assert list(rerank("find it", TEXTS, judge, "pointwise").order) == sorted(range(3), key=lambda i: -chances[i])
    with pytest.raises(UsageError, match="does not answer pairwise questions"):
        rerank("find it", TEXTS, judge, "prp")
    with pytest.raises(UsageError, match="does not answer setwise questions"):
        rerank("find it", TEXTS, judge_of(f"duot5:{folder}"), "setwise")
    assert sorted(rerank("find it", TEXTS, judge_of(f"duot5:{folder}"), "prp").order) == [0, 1, 2]
    assert MonoT5Judge.load(folder).identity != DuoT5Judge.load(folder).identity


def test_a_model_without_these_tokens_is_refused(tiny_t5):
    with pytest.raises(UsageError, match="ask it as t5:BASE"):
        judge_of(f"monot5:{tiny_t5}")


def test_they_are_asked_from_the_command_line_by_their_own_strategies(folder, texts, tmp_path):
    write_beir(texts, tmp_path / "beir")
    write_run({q: {f"d{i}": 40.0 - i for i in range(4)} for q in texts.test.queries}, tmp_path / "first.run")
    given = ["rerank", "--data", tmp_path / "beir", "--run", tmp_path / "first.run", "--out", tmp_path / "o.run"]
    for scheme, strategy in (("monot5", "pointwise"), ("duot5", "prp")):
        done = CliRunner().invoke(app, [*map(str, given), "--judge", f"{scheme}:{folder}", "--words", "9"])
        assert done.exit_code == 0, (done.output, done.exception)
        assert f"lorank-{strategy}" in (tmp_path / "o.run").read_text()
        refused = CliRunner().invoke(app, [*map(str, given), "--judge", f"{scheme}:{folder}", "--max-tokens", "9"])
        assert isinstance(refused.exception, UsageError)
        assert "--max-tokens" in str(refused.exception)
