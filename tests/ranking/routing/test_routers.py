"""Each router's own facts: regret that flattens, the price of nothing, new arms by probing, regions, two levels.

Among the methods of the catalogue that these are facts of: autorag-hp.
"""

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.routing import (
    BanditRouter,
    ExpertiseTree,
    PreferenceRouter,
    RoutingTable,
    make_bandit,
    play,
    two_level_search,
)
from lorank.ranking.routing.bandits import BANDITS
from lorank.ranking.routing.expertise_trees import _hedge
from lorank.ranking.routing.ltrr import RankerRouter
from planted_routing import SEEDS, planted


@pytest.mark.parametrize("name", sorted(BANDITS))
def test_the_regret_of_a_bandit_flattens(name: str) -> None:
    shares = []
    for seed in SEEDS:
        rng = np.random.default_rng([4, seed])
        contexts = np.concatenate([np.ones((3000, 1)), rng.normal(size=(3000, 2))], 1)
        weights = np.array([[0.2, 0, 0], [0.5, 0, 0], [0.9, 0, 0]], float)
        if "ridge" in name:
            weights = rng.normal(size=(3, 3))
        rewards = contexts @ weights.T + 0.1 * rng.normal(size=(3000, 3))
        bandit = make_bandit(name, 3, 3)
        pulled = play(bandit, contexts, rewards, rng)["arms"]
        means = contexts @ weights.T
        regret = means.max(1) - means[np.arange(3000), pulled]
        uniform = (means.max(1) - means.mean(1)).mean()
        shares.append((regret[:300].mean() / uniform, regret[-300:].mean() / uniform))
    early, late = np.median(shares, axis=0)
    assert late < 0.25  # epsilon-greedy goes on exploring one time in ten
    assert late <= early + 0.02


def test_ridge_is_the_regression_of_what_was_pulled() -> None:
    rng = np.random.default_rng(0)
    bandit = make_bandit("ridge", 2, 4)
    contexts, rewards = rng.normal(size=(50, 4)), rng.normal(size=(50, 2))
    pulled = play(bandit, contexts, rewards, rng)["arms"]
    for arm in range(2):
        x, r = contexts[pulled == arm], rewards[pulled == arm, arm]
        assert bandit.weights[arm] == pytest.approx(np.linalg.solve(np.eye(4) + x.T @ x, x.T @ r), abs=1e-8)  # type: ignore[attr-defined]
    for changes in ({"arms": 0}, {"arms": 2, "width": -1}):
        with pytest.raises(UsageError):
            make_bandit("ucb", **changes)
    with pytest.raises(UsageError, match="did you mean"):
        make_bandit("thomson", 2)


def test_mba_rag_takes_the_most_accurate_arm_where_nothing_is_to_be_paid_and_its_regret_flattens() -> None:
    shares = []
    for seed in SEEDS:
        table = planted(seed)
        free = RoutingTable(table.arms, table.features, table.quality + np.array([0.0, 0.0, 0.3]), table.cost)
        for price, expected in ((0.0, 2), (5.0, 0)):
            router = BanditRouter()
            router.fit(free, price, np.random.default_rng(seed))
            easy = table.features[:, 0] < -1
            assert (router.choose(table.features[easy], price) == expected).mean() > 0.9
        assert len(router.regret) == 5 * len(table)
        shares.append(router.regret[-500:].mean() / router.regret[:100].mean())
    assert np.median(shares) < 0.8


def test_the_preference_goes_from_the_cheapest_arm_to_the_best_along_a_front() -> None:
    for seed in SEEDS:
        table, router = planted(seed), PreferenceRouter()
        router.fit(table, 0.0, np.random.default_rng(seed))
        means = [table.mean(router.choose_by(table.features, w), 0.0) for w in np.linspace(0, 1, 11)]
        assert (router.choose_by(table.features, 0.0) == 0).all()
        assert router.choose_by(table.features, 1.0).tolist() == router.expected(table.features).argmax(1).tolist()
        costs = [mean["cost"] for mean in means]
        assert (np.diff(costs) >= -1e-9).all()
        expected = [
            router.expected(table.features)[np.arange(len(table)), router.choose_by(table.features, w)].mean()
            for w in np.linspace(0, 1, 11)
        ]
        assert (np.diff(expected) >= -1e-9).all()


def test_a_new_arm_is_routed_to_after_it_was_probed() -> None:
    for seed in SEEDS:
        whole = planted(seed, 400)
        rng = np.random.default_rng(seed)
        extra = rng.normal(size=(400, 2)) * 0.03
        more = np.concatenate([whole.quality, whole.quality[:, 1:] - 0.15 + extra], 1)
        old = RoutingTable([*whole.arms, "b2", "d2"], whole.features, more, np.array([0, 1, 2, 1, 2.0]))
        router = PreferenceRouter(probes=40)
        router.fit(old, 0.1, rng)
        twin = whole.quality[:, 2] + 0.1 + 0.03 * rng.normal(size=400)  # like "dense", and better at half its cost
        new = router.add_arm(twin[router.probed], 1.0)
        chosen = router.choose(whole.features, 0.1)
        kind = whole.features[:, 0] > 1
        assert (chosen[kind] == new).mean() > 0.8
        assert (chosen[~kind & (whole.features[:, 1] > 1)] == new).mean() < 0.2
    with pytest.raises(UsageError, match="probe"):
        router.add_arm(np.zeros(3), 1.0)
    with pytest.raises(UsageError, match="preference"):
        router.choose_by(whole.features, 2.0)


def test_expertise_trees_find_the_planted_regions_and_one_leaf_is_expert_advice() -> None:
    for seed in SEEDS:
        table = planted(seed)
        tree = ExpertiseTree()
        tree.fit(table, 0.1, np.random.default_rng(seed))
        assert 3 <= tree.leaves <= 16
        assert tree.regret[-100:].mean() < 0.7 * tree.regret[:50].mean()
        stump = ExpertiseTree(most=1)
        stump.fit(table, 0.1, np.random.default_rng(seed))
        assert stump.leaves == 1
        assert set(stump.choose(table.features, 0.1).tolist()) == {table.best_single(0.1)}
        order = np.random.default_rng(seed).permutation(len(table))
        utility = table.utility(0.1)[order]
        advice = [row.max() - _hedge(utility[:i], 3) @ row for i, row in enumerate(utility)]
        assert stump.regret == pytest.approx(advice, abs=1e-9)
        never = ExpertiseTree(caution=np.inf)
        never.fit(table, 0.1, np.random.default_rng(seed))
        assert never.leaves == 1


def test_autorag_hp_two_levels_find_the_planted_setting_with_a_fifth_of_the_grid() -> None:
    knobs = {"top": list(range(6)), "weight": list(range(6)), "model": list(range(5))}
    target = {"top": 4, "weight": 2, "model": 3}
    found = []
    for seed in range(5):
        rng = np.random.default_rng(seed)

        def reward(setting: dict[str, int], rng: np.random.Generator = rng) -> float:
            return -sum((setting[k] - target[k]) ** 2 for k in target) / 20 + 0.01 * float(rng.normal())

        result = two_level_search(knobs, reward, 36, rng)
        assert (len(result.tried), result.grid) == (36, 180)
        found.append(sum((result.best[k] - target[k]) ** 2 for k in target) <= 1)
    assert sum(found) >= 4
    flat = two_level_search({"top": [3, 1, 2]}, lambda setting: setting["top"], 30, np.random.default_rng(0))
    assert flat.best == {"top": 3}
    for bad in ({}, {"top": []}):
        with pytest.raises(UsageError):
            two_level_search(bad, lambda setting: 0.0, 3, np.random.default_rng(0))


@pytest.mark.parametrize("loss", ["mse", "ranknet", "lambda"])
def test_ltrr_takes_pointwise_pairwise_and_listwise_losses_of_the_same_trainer(loss: str) -> None:
    table = planted(3)
    router = RankerRouter(loss=loss)
    router.fit(table, 0.1, np.random.default_rng(0))
    utility = table.mean(router.choose(table.features, 0.1), 0.1)["utility"]
    assert utility > table.utility(0.1).mean(0).max() + 0.1
