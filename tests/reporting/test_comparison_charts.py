"""Charts of many systems: the frontier, axes of cost, the matrix, and small curves."""

import re

import numpy as np
import pytest

from lorank.reporting.comparison_charts import (
    Difference,
    Priced,
    SmallCurve,
    difference_matrix,
    frontier,
    pareto_chart,
    small_curve,
)
from lorank.reporting.numbers import count, duration, size

SYSTEMS = [
    Priced("free", 0.0, 0.4),
    Priced("cheap", 30.0, 0.5),
    Priced("dear", 9000.0, 0.6),
    Priced("vain", 9500.0, 0.3),
]


@pytest.mark.parametrize("seed", range(5))
def test_nothing_on_the_frontier_is_beaten_and_all_else_is(seed):
    rng = np.random.default_rng(seed)
    points = [Priced(str(k), *rng.uniform(0, 1, 2).round(1)) for k in range(30)]
    best = frontier(points)

    def beaten(p):
        return any(o.cost <= p.cost and o.value >= p.value and (o.cost, o.value) != (p.cost, p.value) for o in points)

    assert not any(beaten(p) for p in best)
    assert {(p.cost, p.value) for p in points if not beaten(p)} == {(p.cost, p.value) for p in best}


@pytest.mark.parametrize("width", [880, 342])
@pytest.mark.parametrize("write", [duration, count, size])
def test_points_stand_in_the_order_of_their_costs_inside_the_chart(width, write):
    chart = str(pareto_chart(SYSTEMS, "nDCG@10", "Cost", width, write, "cheap"))
    places = {}
    for name, mark in re.findall(r"<g><title>(\w+):.*?</title>(<.*?>)", chart):
        x = re.search(r' c?x="([\d.]+)"', mark)[1]
        places[name] = float(x) + (5 if mark.startswith("<rect") else 0)
    assert sorted(places, key=places.get) == ["free", "cheap", "dear", "vain"]
    assert 52 < min(places.values()) < max(places.values()) < width
    assert 'class="dot accent"' in chart


@pytest.mark.parametrize("costs", [(5.0, 5.0), (0.0, 0.0), (1.1e9, 1.2e9), (3.0, 1e26)])
def test_costs_that_are_equal_close_or_far_apart_have_an_axis(costs):
    chart = str(pareto_chart([Priced("a", costs[0], 0.5), Priced("b", costs[1], 0.6)], "RR", "Cost", 342, count, None))
    assert "nan" not in chart
    marks = re.findall(r'<text x="([\d.]+)" y="294" class="tick"[^>]*>([^<]+)<', chart)
    assert marks
    places = [float(x) for x, _ in marks]
    assert places == sorted(places)


def test_a_matrix_has_both_signs_with_figures_and_one_half_without():
    def cell(i, j):
        return Difference((j - i) / 10, "better" if j > i else "worse")

    small = str(difference_matrix(["a", "b", "c"], cell, "RR", 200))
    assert small.count("<title>") == 3 + 6
    assert small.count("sure") == 6
    assert "+.200" in small
    large = str(difference_matrix([f"system {k}" for k in range(60)], cell, "RR", 200))
    assert sum(path.count("M") for path in re.findall(r' d="([^"]*)"', large)) == 60 * 59 / 2
    assert len(large) < 60_000


@pytest.mark.parametrize("points", [[(5.0, 0.5)], [(0.0, 0.5), (1e-5, 0.6)], [(1e-5, 0.5), (1e-2, 0.5)]])
def test_a_small_curve_of_few_points_stays_in_its_frame(points):
    chart = str(small_curve(SmallCurve([points], points[-1], logarithmic=True, dots=True), (0.5, 0.5), "value", "RR"))
    for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', chart):
        assert 44 <= float(x) <= 250
        assert 0 <= float(y) <= 132
