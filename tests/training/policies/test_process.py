"""adaptivestep: a process scorer trained on roll-outs of a frozen writer, and the best of its replies."""

import random
import statistics

import pytest
import torch

import lorank
from lorank.errors import UsageError
from lorank.ranking.policies.best_of import BestOfJudge, cut_replies, step_scores
from lorank.ranking.policies.rewards import Asked
from lorank.ranking.policies.writing import Writer
from lorank.ranking.scorers import CausalRanker
from lorank.ranking.strategies.reranking import rerank
from lorank.training import fit, load_ranker
from lorank.training.checks import check_options
from lorank.training.policies.process import label_steps, labelled, process_loss
from lorank.training.policies.questions import Posed
from lorank.training.recipe import RecipeFile, override
from lorank.training.settings import AdapterSettings, OptimizerSettings, PolicySettings, Recipe
from planted_setwise import PLAIN, SIGNAL, write_answering_model, write_rows, write_template

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", 160, 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory, rows):
    """It answers setwise questions in the format with a label at random."""
    return write_answering_model(tmp_path_factory.mktemp("model"), rows)


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return str(write_template(tmp_path_factory.mktemp("prompts")))


def recipe(template, steps, batch, seed=0, **policy):
    settings = {"samples": 4, "options": {"rollouts": 2}, **policy}
    training = OptimizerSettings(
        steps=steps, batch_size=batch, lr=2e-2, evaluations=2, precision="fp32", checkpoint_seconds=0.0
    )
    return Recipe(
        policy=PolicySettings("adaptivestep", size=3, max_tokens=8, prompts=template, **settings),
        adapter=AdapterSettings("lora"),
        training=training,
        seed=seed,
        keep="tuned",
    )


class Killed(Exception):
    pass


def test_a_run_that_was_cut_off_is_the_same_run_and_its_folder_takes_the_best_of_its_replies(
    rows, model, template, tmp_path
):
    data, settings = lorank.load(str(rows)), recipe(template, 3, 2)

    def cut(what, done, total):
        if what.startswith("train") and done == 2:
            raise Killed

    whole = fit(CausalRanker(str(model)), data, out=tmp_path / "whole", recipe=settings)
    with pytest.raises(Killed):
        fit(CausalRanker(str(model)), data, out=tmp_path / "cut", recipe=settings, on_progress=cut)
    again = fit(CausalRanker(str(model)), data, out=tmp_path / "cut", recipe=settings, resume=True)
    for key, value in whole.adapter.state().items():
        assert torch.equal(again.adapter.state()[key], value), key  # exact: a resumed run is the same run

    opened = load_ranker(tmp_path / "whole")
    assert (opened.policy.best_of, opened.policy.aggregate) == (4, "min")
    opened.merge()
    assert not opened.adapter.merged
    judge = opened.policy.judge(opened.ranker)
    assert isinstance(judge, BestOfJudge)
    prompts = [[5, 9, 12], [7, 8]]
    assert judge.write(prompts) == judge.write(prompts)
    assert judge.write(prompts[1:]) == judge.write(prompts)[1:]  # a prompt alone decides


def test_labels_are_what_continuations_earn_and_the_loss_is_their_cross_entropy(model):
    ranker = CausalRanker(str(model))
    writer = Writer(ranker.module, ranker.tokenizer, 4)
    posed = [Posed(0, [5, 9], Asked("setwise", (1.0, 0.0))), Posed(0, [7], Asked("setwise", (1.0, 0.0)))]
    replies, ends = [[4, 5, 6], [8, 9]], [[1, 3], [2]]
    seen = []

    def earn(texts, asked):
        seen.append(len(texts))
        return torch.linspace(0.2, 0.8, len(texts))

    labels = label_steps(writer, posed, replies, ends, earn, 3, 1.0, 0)
    assert seen == [3, 2]
    assert [len(row) for row in labels] == [2, 1]
    assert labels[0] == pytest.approx([0.5, 0.2])
    assert labels[1] == pytest.approx([0.8])

    drawn = labelled(posed, replies, ends, labels, 1.0)
    tokens = (2, 3)
    chances = step_scores(writer, [each.prompt for each in posed], replies, ends, tokens)
    wanted = []
    for row, own, each, reply in zip(chances, ends, posed, replies):
        for chance, end in zip(row, own):
            logits = ranker.module(torch.tensor([[*each.prompt, *reply[:end]]])).logits[0, -1]
            assert chance == pytest.approx(float((logits[2] - logits[3]).detach().sigmoid()), abs=1e-4)
            wanted.append(chance)
    right = torch.tensor([value for row in labels for value in row])
    cross = torch.nn.functional.binary_cross_entropy(torch.tensor(wanted), right)
    torch.testing.assert_close(process_loss(writer, drawn, tokens).detach(), cross, rtol=1e-4, atol=1e-4)


def test_replies_are_cut_where_their_writer_was_unsure(model):
    ranker = CausalRanker(str(model))
    writer = Writer(ranker.module, ranker.tokenizer, 8)
    replies = writer.write([[5, 9]] * 6, seed=0)
    ends = cut_replies(writer, [[5, 9]] * 6, replies, 0.2)
    assert all(own[-1] == len(reply) for own, reply in zip(ends, replies))
    assert all(own == sorted(set(own)) for own in ends)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy.name": "adaptivestep", "policy.advantage": "group"}, "policy.advantage means nothing"),
        ({"policy.name": "adaptivestep", "policy.share": 2.0}, "share must be above 0"),
        ({"policy.name": "adaptivestep", "policy.rolouts": 2}, "did you mean 'rollouts'"),
        ({"policy.name": "erank", "policy.objective": "process"}, "judged by itself|beside others"),
        ({"policy.name": "rank-grpo", "policy.objective": "process"}, "rewards places"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(settings, message):
    with pytest.raises(UsageError, match=message):
        check_options(override(RecipeFile(), settings))


@pytest.fixture(scope="module")
def quoting(tmp_path_factory, rows):
    """Its thought quotes a passage at random, and its answer names it."""
    return write_answering_model(tmp_path_factory.mktemp("quoting"), rows, steps=400, quotes=True)


@pytest.mark.slow
def test_the_best_of_its_replies_by_steps_is_right_where_a_reply_is_right_by_chance(rows, quoting, template, tmp_path):
    means, bests, right = [], [], []
    for seed in (0, 1, 2):
        settings = recipe(template, 100, 8, seed)
        tuned = fit(CausalRanker(str(quoting)), lorank.load(str(rows)), out=tmp_path / str(seed), recipe=settings)
        means.append(tuned.dev["parts"]["mean"])
        bests.append(tuned.dev["value"] / tuned.dev["parts"]["most"])
        judge, rng, found = tuned.policy.judge(tuned.ranker), random.Random(seed), 0
        for i in range(20):
            documents = rng.sample([SIGNAL, *rng.sample(PLAIN, 2)], 3)
            found += documents[rerank(f"find it {i}", documents, judge, "setwise", size=3, top=1).order[0]] == SIGNAL
        right.append(found / 20)
    assert statistics.median(means) < 0.5  # a third is chance
    assert statistics.median(bests) > 0.85  # of what could be chosen
    assert statistics.median(right) > 0.6  # where one of four replies is right four times in five
