import json
import math

import numpy as np
import pytest

from lorank.tuned.mix import Mix, choose_mix, mix_as_json, mix_from_json, mix_run, spread

FIRST = {"q": {"a": 1.0, "b": 0.0, "c": -1.0}}
LEARNED = {"q": {"a": -2.0, "b": 0.0, "c": 2.0}}
GRID = (0.0, 0.5, 1.0, 2.0, float("inf"))


def top(run):
    return {query: max(row, key=row.get) for query, row in run.items()}


def test_zero_weight_is_the_first_stage_and_infinity_the_ranker_alone():
    wants_a = choose_mix(FIRST, LEARNED, GRID, lambda run: float(top(run) == {"q": "a"}))
    assert (wants_a.first_stage, wants_a.weight) == pytest.approx((1.0, 0.0))
    alone = choose_mix(FIRST, LEARNED, (float("inf"),), lambda run: 0.0)
    assert (alone.first_stage, alone.weight) == pytest.approx((0.0, 1.0))
    assert mix_run(alone, FIRST, LEARNED) == LEARNED


def test_of_equal_mixes_the_one_nearest_the_first_stage_is_taken():
    assert choose_mix(FIRST, LEARNED, GRID, lambda run: 1.0).weight == 0.0


def test_the_unit_of_the_grid_is_the_spread_of_the_learned_scores():
    deviation = math.sqrt((4 + 0 + 4) / 3)
    assert spread(LEARNED) == pytest.approx(deviation)
    wants_c = choose_mix(FIRST, LEARNED, GRID, lambda run: float(top(run) == {"q": "c"}))
    assert (wants_c.weight, wants_c.factor) == pytest.approx((1.0, 1.0 / deviation))


def test_a_constant_ranker_has_spread_one():
    assert spread({"q": {"a": 3.0, "b": 3.0}}) == pytest.approx(1.0)


def test_the_curve_holds_every_weight_that_was_tried():
    mix = choose_mix(FIRST, LEARNED, GRID, lambda run: 0.25)
    assert mix.curve == [(g, 0.25) for g in GRID]


def test_never_below_the_first_stage_on_dev():
    rng = np.random.default_rng(0)
    documents = [f"d{i}" for i in range(20)]
    first = {"q": dict(zip(documents, rng.normal(size=20).tolist(), strict=True))}
    learned = {"q": dict(zip(documents, rng.normal(size=20).tolist(), strict=True))}

    def value(run):
        return float(sum(i * run["q"][d] for i, d in enumerate(documents)) / max(map(abs, run["q"].values())))

    mix = choose_mix(first, learned, GRID, value)
    assert value(mix_run(mix, first, learned)) >= value(first)


def test_scores_are_a_z_plus_g_over_s_times_c():
    mixed = Mix(1.0, 3.0, spread=2.0).apply(np.array([1.0, 2.0]), np.array([10.0, -1.0]))
    assert mixed.tolist() == pytest.approx([1 + 1.5 * 10, 2 - 1.5])


@pytest.mark.parametrize("g", GRID)
def test_a_mix_goes_through_json(g):
    mix = choose_mix(FIRST, LEARNED, (g,), lambda run: 0.25)
    assert mix_from_json(json.loads(json.dumps(mix_as_json(mix)))) == mix


@pytest.mark.parametrize("spread", [0.0, -1.0, math.inf, math.nan])
def test_a_spread_that_cannot_be_is_refused(spread):
    with pytest.raises(ValueError, match="spread"):
        mix_from_json({"first_stage": 1.0, "weight": 2.0, "spread": spread})
