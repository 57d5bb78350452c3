"""a2fm: instant is preferred on easy prompts as the cost weighs more, and forced samples balance the groups."""

import numpy as np
import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.errors import UsageError
from lorank.ranking.routing import RoutingTable, make_router
from planted_routing import SEEDS

MODES = ["instant", "reasoning", "agentic"]


def prompts(seed, count=300):
    """Easy prompts, which all modes answer (slower ones a little better), and such as need reasoning or tools."""
    rng = np.random.default_rng([3, seed])
    kind = rng.integers(3, size=count)
    quality = np.array([[0.8, 0.85, 0.88], [0.1, 0.9, 0.6], [0.05, 0.3, 0.9]])[kind]
    features = np.eye(3)[kind] + 0.2 * rng.normal(size=(count, 3))
    return RoutingTable(MODES, features, quality + 0.02 * rng.normal(size=(count, 3)), np.array([0.1, 1.0, 2.0])), kind


def test_a2fm_prefers_instant_on_easy_prompts_as_the_cost_weighs_more():
    shares = []
    for seed in SEEDS:
        table, _ = prompts(seed)
        test, kind = prompts(seed + 50)
        row = []
        for price in (0.0, 0.05, 0.2):
            router = make_router("a2fm")
            router.fit(table, price, np.random.default_rng(seed))
            chosen = router.choose(test.features, price)
            row.append(float((chosen[kind == 0] == 0).mean()))
            if price == 0.2:
                assert (chosen[kind == 1] == 1).mean() > 0.8
                assert (chosen[kind == 2] == 2).mean() > 0.8
        shares.append(row)
    mean = np.mean(shares, 0)
    assert mean[0] < 0.2
    assert mean[2] > 0.9
    assert mean[0] <= mean[1] <= mean[2]


def test_forced_samples_hold_every_mode_equally_often_in_each_group():
    router = make_router("a2fm", forced=2, free=4)
    rewards = np.array([[1.0, 3.0, 5.0]])
    picks, advantage = router.sample_groups(np.array([[0.0, 0.0, 1.0]]), rewards, np.random.default_rng(0))
    group = np.array([1, 1, 3, 3, 5, 5, 5, 5, 5, 5.0])
    assert picks.tolist() == [[2, 2, 2, 2]]
    np.testing.assert_allclose(advantage, np.full((1, 4), (5 - group.mean()) / group.std()))


def test_a_router_that_always_takes_one_mode_unlearns_it_by_its_forced_samples():
    table, _ = prompts(0)
    router = make_router("a2fm")
    always = np.tile([1e-12, 1e-12, 1.0], (len(table), 1))
    _, advantage = router.sample_groups(always, table.utility(1.0), np.random.default_rng(0))
    assert advantage.max() < 0


def test_equal_rewards_teach_nothing():
    picks, advantage = make_router("a2fm").sample_groups(
        np.full((2, 3), 1 / 3), np.full((2, 3), 0.7), np.random.default_rng(0)
    )
    assert picks.shape == (2, 3)
    np.testing.assert_allclose(advantage, 0, atol=1e-9)


@pytest.mark.parametrize("wrong", [{"forced": 0}, {"free": 0}, {"warmup": -1}, {"rounds": 0}, {"rate": 0.0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(UsageError, match="forced="):
        make_router("a2fm", **wrong)


def test_a2fm_is_trained_and_applied_from_the_command_line(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        easy = number % 2 == 0
        text = f"what is {rng.integers(9)}" if easy else f"find 7 sources that compare {rng.integers(99)} methods"
        worth = {"instant": 0.9, "reasoning": 0.9, "agentic": 0.9} if easy else {"instant": 0, "agentic": 1}
        quality = ", ".join(f'"{mode}": {value}' for mode, value in ({"reasoning": 0.2} | worth).items())
        rows.append(f'{{"query": "{text}", "quality": {{{quality}}}, "cost": {{"reasoning": 1, "agentic": 2}}}}')
    (tmp_path / "modes.jsonl").write_text("\n".join(rows) + "\n")
    line = ["route", "train", "--table", tmp_path / "modes.jsonl", "--method", "a2fm", "--out", tmp_path / "run"]
    done = CliRunner().invoke(app, list(map(str, line)))
    assert done.exit_code == 0, (done.output, done.exception)
    line = [
        "route",
        "apply",
        tmp_path / "run",
        "--query",
        "what is 3",
        "--query",
        "find 7 sources that compare 12 methods",
    ]
    done = CliRunner().invoke(app, list(map(str, line)))
    assert [row.rpartition(": ")[2] for row in done.stdout.splitlines()] == ['"instant"}', '"agentic"}']
