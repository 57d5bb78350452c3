"""Every router: beats the best single arm on planted types of queries, takes the cheap arm for easy ones, is saved."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lorank.errors import DataError, UsageError
from lorank.ranking.routing import ROUTERS, RoutingTable, make_router
from planted_routing import SEEDS, planted

NAMES = ("ltrr", "mba-rag", "llm-bandit", "expertise-trees", "c-3po", "a2fm")


@pytest.fixture(scope="module")
def fitted() -> dict[tuple[str, int], Any]:
    """Each router by its name and seed, fitted at its own defaults with a price of 0.1."""
    made = {}
    for name in NAMES:
        for seed in SEEDS:
            made[name, seed] = make_router(name)
            made[name, seed].fit(planted(seed), 0.1, np.random.default_rng(seed))
    return made


@pytest.mark.parametrize("name", NAMES)
def test_a_router_beats_the_best_single_arm_and_nears_the_oracle(name: str, fitted: Any) -> None:
    gains, cheap = [], []
    for seed in SEEDS:
        table = planted(seed + 100)
        chosen = fitted[name, seed].choose(table.features, 0.1)
        utility = table.mean(chosen, 0.1)["utility"]
        single = table.utility(0.1).mean(0)[table.best_single(0.1)]
        best = table.mean(table.oracle(0.1), 0.1)["utility"]
        gains.append((utility - single) / (best - single))
        easy = table.features[:, 0] < -1
        cheap.append((chosen[easy] == 0).mean())
    assert np.median(cheap) > 0.8
    assert np.median(gains) > 0.8


@pytest.mark.parametrize("name", NAMES)
def test_a_router_that_is_saved_and_read_chooses_alike(name: str, fitted: Any, tmp_path: Path) -> None:
    router, features = fitted[name, 0], planted(7).features
    router.save(tmp_path)
    again = make_router(name)
    again.load(tmp_path)
    assert again.choose(features, 0.1).tolist() == router.choose(features, 0.1).tolist()
    with pytest.raises(DataError, match="train it again"):
        make_router(name).load(tmp_path / "nothing")
    if name != "llm-bandit":
        with pytest.raises(UsageError, match="price"):
            router.choose(features, 0.5)


def test_names_options_and_tables_that_cannot_be_are_refused() -> None:
    assert set(NAMES) == set(ROUTERS)
    for what, message in [
        (lambda: make_router("ltr"), "did you mean 'ltrr'"),
        (lambda: make_router("mba-rag", epsilon=1), "epsilon"),
        (lambda: make_router("mba-rag", epochs=0), "epochs"),
        (lambda: make_router("expertise-trees", least=1), "least"),
        (lambda: make_router("llm-bandit", probes=0), "probes"),
        (lambda: make_router("c-3po", branches=1), "branches"),
        (lambda: RoutingTable(["a"], np.zeros((2, 1)), np.zeros((2, 2)), np.zeros(2)), "do not fit"),
        (lambda: RoutingTable(["a"], np.zeros((1, 1)), np.full((1, 1), np.nan), np.zeros(1)), "NaN"),
        (lambda: RoutingTable([], np.zeros((1, 1)), np.zeros((1, 0)), np.zeros(0)), "an arm"),
    ]:
        with pytest.raises(UsageError, match=message):
            what()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_oracle_is_the_best_of_all_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    table = RoutingTable(["a", "b", "c"], np.zeros((5, 1)), rng.random((5, 3)), rng.random(3))
    every = np.stack(np.meshgrid(*[range(3)] * 5), -1).reshape(-1, 5)
    values = [table.mean(arms, 0.3)["utility"] for arms in every]
    assert table.oracle(0.3).tolist() == every[int(np.argmax(values))].tolist()
    alone = [table.mean(np.full(5, arm), 0.3)["utility"] for arm in range(3)]
    assert table.best_single(0.3) == int(np.argmax(alone))
