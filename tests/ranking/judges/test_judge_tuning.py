"""Judges are taught: the loss falls, and the tuned judge orders a planted task through its strategy."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from lorank import lowrank
from lorank.catalogue import METHODS
from lorank.data.rows import read_rows
from lorank.errors import UsageError
from lorank.ranking import rerank
from lorank.ranking.judges import Question
from lorank.ranking.judges.causal import CausalJudge
from lorank.ranking.judges.lessons import binary_lessons, first_lessons, score_lessons, taught_judge
from lorank.ranking.judges.prompts import Prompts
from lorank.ranking.judges.tuning import order_loss
from lorank.ranking.judges.warmup import format_rewards, group_relative_loss, warm_up
from lorank.ranking.losses.rewards import expected_score
from lorank.ranking.scorers import CausalRanker
from lorank.ranking.scorers.replies import ReplyRanker
from lorank.training import AdapterSettings, LossSettings, OptimizerSettings, Recipe, fit, load_ranker
from tiny_causals import llama, write_causal

WORDS = ["red", "blue", "green", "one", "two"]
TRAINING = OptimizerSettings(steps=40, batch_size=8, lr=2e-2, evaluations=2, precision="fp32", decay="none", warmup=0)
SHORT = Prompts.load()
for kind in ("identifiers", "pointwise", "yes-no", "listwise"):
    SHORT.templates[kind] = type(SHORT.templates[kind])("$query\n$documents")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_causal(tmp_path_factory.mktemp("judge"), llama(), spread=0.05, loudness=6.0)


def planted(seed, count=40):
    """Queries with a relevant passage, which says Yes, and one that says No."""
    draw = random.Random(seed)
    for i in range(count):
        words = draw.sample(WORDS, 2)
        yield f"{i}", [f"Yes {words[0]}", f"No {words[1]}"], [1, 0]


def stored(lessons, path):
    path.write_text("".join(json.dumps(lesson) + "\n" for lesson in lessons))
    return read_rows(path)


def losses(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def test_lessons_ask_what_the_judge_asks():
    generator = np.random.default_rng(0)
    documents, labels = ["red", "blue", "green"], [0, 2, 1]
    (lesson,) = first_lessons("q", documents, labels, generator=generator)
    shown = np.random.default_rng(0).permutation(3)
    assert lesson["query"] == Prompts.load().text("q", documents, Question("identifiers", tuple(shown)), letters=True)
    assert lesson["labels"] == [labels[d] for d in shown]
    assert first_lessons("q", documents, [1, 1, 1], generator=generator) == []
    scored = score_lessons("q", documents, labels, highest=2)
    assert [lesson["labels"].index(1) for lesson in scored] == [0, 10, 5]
    assert scored[1]["query"] == Prompts.load().text("q", documents, Question("pointwise", (1,)))
    assert binary_lessons("q", documents, labels, template="$query|$documents")[0] == {
        "query": "q|red",
        "docs": ["1", "0"],
        "labels": [0, 1],
    }
    for bad in (
        lambda: first_lessons("q", documents, [1], generator=generator),
        lambda: first_lessons("q", documents, labels, generator=generator, size=40),
        lambda: score_lessons("q", documents, [3, 0, 0], highest=2),
    ):
        with pytest.raises(UsageError):
            bad()


def test_replies_are_log_probabilities_of_the_first_token(base, tmp_path):
    ranker = ReplyRanker(base)
    prompts = ["which one?", "is it, really?"]
    logits = []
    for prompt in prompts:
        text = ranker.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        with torch.no_grad():
            logits.append(ranker.module(torch.tensor([ranker.tokenizer(text)["input_ids"]])).logits[0, -1])
    tokens = [ranker.tokenizer.encode(reply)[0] for reply in "AB"]
    expected = torch.stack(logits).log_softmax(1)[:, tokens].numpy()
    pairs = np.array([[1, 0], [0, 1], [0, 0], [1, 1]])
    np.testing.assert_allclose(
        ranker.score_pairs(prompts, ["A", "B"], pairs), expected[pairs[:, 0], pairs[:, 1]], atol=1e-5
    )
    inputs = ranker.prepare(prompts, ["A", "B"])
    grid = ranker.forward(
        inputs, torch.tensor([1, 0]), torch.tensor([[0, 1], [1, 0]]), torch.tensor([[True, True], [True, False]])
    )
    np.testing.assert_allclose(grid.detach().numpy(), [expected[1], [expected[0, 1], 0.0]], atol=1e-5)
    ranker.save(tmp_path / "saved")
    np.testing.assert_array_equal(
        ReplyRanker.load(tmp_path / "saved").score("which one?", ["A", "B"]), ranker.score("which one?", ["A", "B"])
    )
    with pytest.raises(UsageError, match="not one token"):
        ranker.score("which one?", ["certainly"])
    with pytest.raises(UsageError, match="fewer documents"):
        ReplyRanker(base, max_length=40).score("which one? " * 10, ["A"])


def test_first_is_taught_and_orders_by_the_letters_of_one_token(base, tmp_path):
    generator = np.random.default_rng(0)
    lessons = [
        lesson
        for query, documents, labels in planted(0)
        for lesson in first_lessons(query, documents, labels, generator=generator, prompts=SHORT, copies=2)
    ]
    data = stored(lessons, tmp_path / "lessons.jsonl")
    recipe = Recipe(
        adapter=AdapterSettings("lora", rank=16), loss=LossSettings("first-sft"), training=replace(TRAINING, steps=120)
    )
    tuned = fit(ReplyRanker(base), data, out=tmp_path / "run", recipe=recipe)
    curve = losses(tmp_path / "run")
    assert curve[-1] < curve[0]
    judge = taught_judge(tuned.ranker, prompts=SHORT)
    right = []
    for query, documents, _ in planted(1, 20):
        shown = documents if len(right) % 2 else documents[::-1]
        found = rerank(query, shown, judge, "first")
        right.append(shown[found.order[0]].startswith("Yes"))
        assert found.usage.tokens_out == found.usage.calls  # one token a window
    assert np.mean(right) > 0.8


def test_erank_is_taught_integers_and_answers_by_the_expected_score(base, tmp_path):
    assert METHODS["erank"].location.endswith(expected_score.__name__)
    lessons = [
        lesson
        for query, documents, labels in planted(0)
        for lesson in score_lessons(query, documents, labels, highest=1, prompts=SHORT, scores=range(10))
    ]
    data = stored(lessons, tmp_path / "lessons.jsonl")
    tuned = fit(
        ReplyRanker(base),
        data,
        out=tmp_path / "run",
        loss="softmax",
        recipe=Recipe(adapter=AdapterSettings("dora", rank=8), training=replace(TRAINING, steps=80, lr=1e-2)),
    )
    curve = losses(tmp_path / "run")
    assert curve[-1] < 0.5 * curve[0]
    judge = taught_judge(tuned.ranker, prompts=SHORT, pointwise="expected")
    for query, documents, _ in planted(1, 5):
        found = rerank(query, documents[::-1], judge, "pointwise")
        assert found.order == (1, 0)
        assert 0 <= min(found.scores) < 2
        assert 7 < max(found.scores) <= 9
    again = taught_judge(load_ranker(tmp_path / "run").ranker, prompts=SHORT, pointwise="expected")
    assert rerank("1", ["No red", "Yes red"], again, "pointwise").order == (1, 0)


TEMPLATE = "$query\n$documents\n1 or 0?"


def test_prorank_warms_up_until_replies_are_in_format_and_right(base):
    ranker = ReplyRanker(base)
    lessons = [
        lesson
        for query, documents, labels in planted(0, 8)
        for lesson in binary_lessons(query, documents, labels, template=TEMPLATE)
    ]
    inputs = ranker.prepare([lesson["query"] for lesson in lessons], ["1", "0"])
    one, zero = inputs.documents.ids.tolist()
    right = torch.tensor([one if lesson["labels"][0] else zero for lesson in lessons])
    names = [name for name, _ in ranker.module.named_parameters()]
    adapter = lowrank.attach(ranker.module, "lora", rank=8, trained=["lm_head"], seed=0)

    def policy():
        return ranker.log_probabilities(inputs, np.arange(len(lessons)))

    # a model that replies at random over 280 tokens hardly ever meets the format: the prompt leans it a little first
    bias = torch.zeros(280)
    bias[[one, zero]] = 4.0
    ranker.module.lm_head.register_forward_hook(lambda module, given, output: output + bias)
    curve = warm_up(
        policy,
        format_rewards((one, zero), right),
        adapter.parameters(),
        steps=60,
        rate=2e-2,
        generator=torch.Generator().manual_seed(0),
    )
    with torch.no_grad():
        chance = policy().exp()
    assert chance[:, [one, zero]].sum(1).min() > 0.95
    assert curve[-1] > curve[0] + 0.5
    adapter.merge()
    adapter.detach()
    assert [name for name, _ in ranker.module.named_parameters()] == names


def test_prorank_score_rises_with_the_probability_of_one_and_is_taught_by_a_ranking_loss(base, tmp_path):
    assert METHODS["prorank"].area == "rerank"
    rows = [{"query": query, "docs": documents, "labels": labels} for query, documents, labels in planted(0)]
    data = stored(rows, tmp_path / "rows.jsonl")
    ranker = CausalRanker(base, answers=("1", "0"), prompt=TEMPLATE)
    names = [name for name, _ in ranker.module.named_parameters()]
    replies = ReplyRanker(base)
    prompts = [
        lesson["query"]
        for query, documents, labels in planted(2, 6)
        for lesson in binary_lessons(query, documents, labels, template=TEMPLATE)
    ]
    logs = np.stack([replies.score(prompt, ["1", "0"]) for prompt in prompts])
    scores = np.concatenate([ranker.score(query, documents) for query, documents, _ in planted(2, 6)])
    np.testing.assert_allclose(scores, logs[:, 0] - logs[:, 1], atol=1e-4)
    among = np.exp(logs[:, 0]) / np.exp(logs).sum(1)
    assert (np.argsort(scores) == np.argsort(among)).all()
    tuned = fit(
        ranker,
        data,
        loss="ranknet",
        out=tmp_path / "run",
        recipe=Recipe(adapter=AdapterSettings("lora", rank=4), training=replace(TRAINING, steps=20)),
    )
    curve = losses(tmp_path / "run")
    assert curve[-1] < 0.5 * curve[0]
    assert all(np.subtract(*tuned.score(query, documents)) > 0 for query, documents, _ in planted(1, 5))
    tuned.adapter.merge()
    tuned.adapter.detach()
    assert [name for name, _ in ranker.module.named_parameters()] == names


def test_group_relative_loss_is_the_policy_gradient():
    logits = torch.randn(1, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    logs = logits.log_softmax(1)
    tokens, rewards = torch.tensor([[2, 4]]), torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(
        group_relative_loss(logs, tokens, rewards), -(logs[0, 2] - logs[0, 4]) / 2, atol=1e-4, rtol=1e-4
    )
    assert group_relative_loss(logs, tokens, torch.ones(1, 2)) == 0
    apart = group_relative_loss(
        logs, tokens, torch.ones(1, 2), reference=torch.zeros(1, 5).log_softmax(1), divergence=2.0
    )
    torch.testing.assert_close(apart, 2 * (logs.exp() * (logs - np.log(1 / 5))).sum())
    with pytest.raises(UsageError, match="reference"):
        group_relative_loss(logs, tokens, rewards, divergence=1.0)


def test_full_ranking_is_taught_whole_orders_that_it_then_writes(base):
    judge = CausalJudge.load(base, prompts=SHORT, max_tokens=12)
    adapter = lowrank.attach(judge.model, "lora", rank=16, trained=["lm_head"], seed=0)
    asked = []
    for query, documents, _ in planted(0, 16):
        for shown, order in ((documents, (0, 1)), (documents[::-1], (1, 0))):
            asked.append((judge.prompt(query, shown, Question("listwise", (0, 1))), order))
    optimizer = torch.optim.Adam(adapter.parameters(), lr=5e-3)
    curve = []
    for step in range(100):
        chosen = [asked[i] for i in np.random.default_rng(step).permutation(len(asked))[:4]]
        optimizer.zero_grad()
        value = torch.stack([order_loss(judge.model, judge.tokenizer, *each) for each in chosen]).mean()
        value.backward()
        optimizer.step()
        curve.append(float(value.detach()))
    assert np.mean(curve[-10:]) < 0.2 * np.mean(curve[:5])
    right = [
        rerank(query, shown, judge, "full").order[0] == best
        for query, documents, _ in planted(1, 8)
        for shown, best in ((documents, 0), (documents[::-1], 1))
    ]
    assert np.mean(right) > 0.8


def test_an_order_loss_without_weights_is_the_language_model_loss(base):
    judge = CausalJudge.load(base)
    prompt = judge.prompt("q", ["red", "blue"], Question("listwise", (0, 1)))
    ids = [
        *judge.tokenizer(prompt, add_special_tokens=False)["input_ids"],
        *judge.tokenizer("[2] > [1]")["input_ids"],
        1,
    ]
    start = len(judge.tokenizer(prompt, add_special_tokens=False)["input_ids"])
    labels = torch.tensor([[-100] * start + ids[start:]])
    expected = judge.model(torch.tensor([ids]), labels=labels).loss
    torch.testing.assert_close(order_loss(judge.model, judge.tokenizer, prompt, (1, 0), important=False), expected)
