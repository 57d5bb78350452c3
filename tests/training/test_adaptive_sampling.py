"""asr-sampling: the policy converges to the planted best bin; a uniform policy is the sampler without a policy."""

from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import lorank
from lorank.cli.app import app
from lorank.data import write_beir
from lorank.errors import UsageError
from lorank.ranking.scorers import BiEncoder
from lorank.training import fit
from lorank.training.hooks.adaptive_sampling import AdaptiveSampling, BinPolicy
from lorank.training.hooks.hook import Progress
from lorank.training.lists.binned import BINS, BinnedLists, bin_places
from lorank.training.lists.retrieval import dense_run
from lorank.training.plan import build_plan, resolve_recipe
from lorank.training.recipe import RecipeFile, override
from lorank.tuned.ranker import merged
from planted_retrieval import decoyed, write_encoder

pytestmark = pytest.mark.usefixtures("own_cache")
ADAPTIVE = {"lists.negatives_from": "adaptive", "lists.depth": 40, "training.lr": 1e-2, "training.evaluations": 1}
ADAPTIVE |= {"keep": "tuned", "judge_test": False, "reading.max_length": 24, "training.batch_size": 4}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def played(best: int, seed: int, turns: int = 200, **options: Any) -> BinPolicy:
    """A policy whose gains are 1 for the best bin, less the farther a bin is from it, in noise as large as that."""
    policy, rng = BinPolicy(**options), np.random.default_rng(seed)
    for _ in range(turns):
        chosen = policy.choose(rng)
        policy.learn(chosen, 1 - 0.5 * abs(chosen - best) + rng.normal(scale=0.5))
    return policy


@pytest.mark.parametrize("best", range(BINS))
def test_asr_sampling_converges_to_the_planted_best_bin(best: int) -> None:
    found = [played(best, seed) for seed in range(5)]
    assert median(policy.chances[best] for policy in found) > 0.8
    assert np.mean([policy.chances.argmax() == best for policy in found]) > 0.7


def test_a_policy_that_does_not_learn_stays_uniform_and_chances_sum_to_one() -> None:
    np.testing.assert_allclose(played(2, 0, rate=0.0).chances, np.full(BINS, 1 / BINS))
    assert played(2, 0).chances.sum() == pytest.approx(1.0)


def test_a_step_is_the_gradient_of_the_chosen_bin_times_its_advantage() -> None:
    policy = BinPolicy(3, rate=0.5)
    for reward in (0.0, 2.0):
        policy.learn(0, reward)
    mean, deviation = 1.0, (0.5 * (0.0 + 2.0**2)) ** 0.5
    before = policy.chances
    policy.learn(1, 2.5)
    expected = 0.5 * (2.5 - mean) / deviation * (np.eye(3)[1] - before)
    np.testing.assert_allclose(policy.theta, expected)


def test_the_bins_of_a_uniform_policy_draw_each_of_the_best_documents_alike() -> None:
    for count in (5, 40, 100):
        chance = np.zeros(count)
        for turn in range(BINS):
            places = bin_places(count, turn)
            chance[places] += 1 / BINS / len(places)
        np.testing.assert_allclose(chance, np.full(count, 1 / count))
    for count in range(1, BINS):
        assert all(len(bin_places(count, turn)) >= 1 for turn in range(BINS))


def plan_of(encoder: str, out: Path, **changes: Any) -> Any:
    data = decoyed(0)
    recipe = override(RecipeFile(), ADAPTIVE | {"training.steps": 12} | changes)
    ranker = BiEncoder(encoder, max_length=24)
    resolved, budget = resolve_recipe(ranker, data, recipe)
    return build_plan(ranker, data, resolved, budget, out, None, lambda *_: None)


def test_lists_hold_the_relevant_and_draws_of_the_bin_in_turn(encoder: str, tmp_path: Path) -> None:
    plan = plan_of(encoder, tmp_path, **{"lists.negatives": 4})
    lists = plan.lists
    assert isinstance(lists, BinnedLists)
    chosen = lists.epoch(0)[:4]
    lists.turn = 0
    near = lists.collate(chosen)
    lists.turn = BINS - 1
    far = lists.collate(chosen)
    assert near.mask.sum(1).tolist() == far.mask.sum(1).tolist() == [5] * 4
    asked = np.array([lists.query_at[each.query_id] for each in chosen])
    from lorank.training.lists.negatives import query_vectors

    queries = query_vectors(lists.encoder, lists.inputs, asked)
    for row, query in enumerate(queries):
        worth = [
            lists.inputs.vectors.of(batch.documents[row][batch.labels[row] <= 0][:4].numpy()).similarities(query)
            for batch in (near, far)
        ]
        assert worth[0].min() > worth[1].max()


def test_what_the_policy_knows_survives_a_checkpoint(encoder: str, tmp_path: Path) -> None:
    hook = plan_of(encoder, tmp_path).sampling
    assert isinstance(hook, AdaptiveSampling)
    for turn in range(5):
        hook.before_step(Progress(4 * turn, 40, 0), None)  # type: ignore[arg-type]
    hook.policy.learn(1, 0.4)
    other = plan_of(encoder, tmp_path / "other").sampling
    other.load_state(hook.state())
    assert (other.turns, other.lists.turn, other.policy.count) == (5, hook.lists.turn, hook.policy.count)
    np.testing.assert_allclose(other.policy.theta, hook.policy.theta)
    for each in (hook, other):
        each.policy.learn(2, 0.9)
    np.testing.assert_allclose(other.policy.theta, hook.policy.theta)


def test_other_kinds_of_negatives_have_no_policy(encoder: str, tmp_path: Path) -> None:
    assert plan_of(encoder, tmp_path, **{"lists.negatives_from": "live"}).sampling is None
    with pytest.raises(UsageError, match="full"):
        plan_of(encoder, tmp_path, **{"adapter.name": "full"})


def test_asr_sampling_trains_from_the_command_line(encoder: str, tmp_path: Path) -> None:
    write_beir(decoyed(0), tmp_path / "data")
    line = ["train", "--data", tmp_path / "data", "--base", encoder, "--kind", "bi-encoder"]
    line += ["--negatives-from", "adaptive", "--steps", 12]
    done = CliRunner().invoke(app, [*map(str, line), "--out", str(tmp_path / "run")])
    assert done.exit_code == 0, (done.output, done.exception)
    assert next(each.area for each in lorank.methods() if each.id == "asr-sampling") == "active"


@pytest.mark.slow
def test_asr_sampling_finds_more_than_before_training(tmp_path: Path) -> None:
    gains = []
    for seed in range(3):
        data, encoder = decoyed(seed), write_encoder(tmp_path / f"encoder{seed}", seed)
        values = []
        for steps in (0, 120):
            ranker = BiEncoder(encoder, max_length=24)
            if steps:
                recipe = override(RecipeFile(), ADAPTIVE | {"training.steps": steps, "seed": seed})
                tuned = fit(ranker, data, out=tmp_path / "run", recipe=recipe, overwrite=True)
                with merged(tuned.adapter):
                    run = dense_run(ranker, data, data.test.queries, 50)
            else:
                run = dense_run(ranker, data, data.test.queries, 50)
            found = lorank.evaluate({"run": run}, data.test.qrels, measures=["R@5"], resamples=10)
            values.append(found.systems["run"].mean["R@5"])
        gains.append(values[1] - values[0])
    assert median(gains) > 0.1
