"""The charts are well-formed SVG whose marks stand where the numbers say."""

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from lorank.reporting.charts import (
    Rung,
    curve_chart,
    difference_bars,
    difference_glyph,
    even_groups,
    ladder_chart,
    rank_picture,
)

WIDTHS = [880, 342]
HOSTILE = '"><script>alert(1)</script>&'


def parsed(drawing):
    root = ElementTree.fromstring(str(drawing))
    assert root.get("role") == "img"
    assert root.get("aria-label")
    return root


def marks(root, tag, class_part):
    return [e for e in root.iter(tag) if class_part in e.get("class", "").split()]


def inside(root, width):
    for node in root.iter():
        for name in ("x", "x1", "x2", "cx"):
            if node.get(name):
                assert -0.01 <= float(node.get(name)) <= width + 0.01


@pytest.mark.parametrize("width", WIDTHS)
def test_ladder_places_means_on_one_affine_scale(width):
    rungs = [Rung(f"s{k}", v, v - 0.02, v + 0.03) for k, v in enumerate((0.41, 0.46, 0.52, 0.57))]
    root = parsed(ladder_chart(rungs, "nDCG@10", width, accent="s3"))
    dots = [float(c.get("cx")) for c in marks(root, "circle", "dot")]
    scale = (dots[-1] - dots[0]) / (0.57 - 0.41)
    for rung, x in zip(rungs, dots):
        assert x == pytest.approx(dots[0] + scale * (rung.value - 0.41), abs=0.05)
    whiskers = [w for w in marks(root, "line", "whisker") if w.get("y1") == w.get("y2")]
    assert float(whiskers[0].get("x2")) - float(whiskers[0].get("x1")) == pytest.approx(0.05 * scale, abs=0.05)
    assert len(marks(root, "circle", "accent")) == 1
    assert "0.570" in "".join(root.itertext())
    inside(root, width)


def test_ladder_survives_undefined_values_and_hostile_names():
    rungs = [Rung(HOSTILE * 5, 0.5, math.nan, math.nan), Rung("gone", math.nan, 0, 1)]
    root = parsed(ladder_chart(rungs, HOSTILE, 342))
    assert not list(root.iter("script"))
    assert len(marks(root, "circle", "dot")) == 1


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("queries", [1, 7, 360, 5000])
def test_bars_are_sorted_and_bounded_in_number(width, queries):
    values = np.random.default_rng(queries).normal(0, 0.3, queries)
    root = parsed(difference_bars([(f"q{k}", float(v)) for k, v in enumerate(values)], "nDCG@10", width))
    bars = marks(root, "rect", "bar")
    assert len(bars) == min(queries, 360, width - 60)
    assert all(bar.find("title").text for bar in bars)
    places = [float(bar.get("x")) for bar in bars]
    assert places == sorted(places)
    tones = [bar.get("class") for bar in bars]
    assert tones == sorted(tones, key=["bar gain", "bar even", "bar loss"].index)
    assert f"{int((values > 0).sum())} gain, {int((values < 0).sum())} lose" in root.get("aria-label")
    inside(root, width)


def test_bar_height_is_the_difference():
    root = parsed(difference_bars([("a", 0.4), ("b", 0.2), ("c", -0.2)], "nDCG@10", 880))
    heights = [float(bar.get("height")) for bar in marks(root, "rect", "bar")]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.05)
    assert heights[1] == pytest.approx(heights[2], abs=0.05)


def test_groups_of_neighbours_lose_nothing():
    groups = even_groups(list(range(1000)), 360)
    assert [item for group in groups for item in group] == list(range(1000))
    assert {len(g) for g in groups} == {2, 3}


@pytest.mark.parametrize("width", WIDTHS)
def test_curve_averages_many_points_and_marks_the_best(width):
    points = [(float(x), math.sin(x / 400)) for x in range(2000)]
    root = parsed(curve_chart(points, width, x_name="step", y_name="loss", marked=points[628], marked_as="best"))
    drawn = next(root.iter("polyline")).get("points").split()
    assert len(drawn) == 240
    assert len(marks(root, "circle", "accent")) == 1
    assert float(marks(root, "circle", "accent")[0].get("cx")) == pytest.approx(
        52 + 628 / 1999 * (width - 14 - 52), abs=0.05
    )
    inside(root, width)


@pytest.mark.parametrize("points", [[], [(3.0, 0.5)], [(0.0, math.nan)], [(0.0, 1.0), (1.0, 1.0)]])
def test_curve_of_next_to_nothing(points):
    parsed(curve_chart(points, 342, x_name="step", y_name="loss", dots=True))


def test_glyph_keeps_zero_in_the_middle():
    root = parsed(difference_glyph(0.1, (0.0, 0.2), reach=0.2))
    zero, dot = marks(root, "line", "zero")[0], marks(root, "circle", "dot")[0]
    assert float(zero.get("x1")) == 66
    assert float(dot.get("cx")) == pytest.approx(66 + 60 / 2)
    parsed(difference_glyph(math.nan, (math.nan, math.nan), reach=0.2))


def test_rank_picture_has_a_cell_per_layer_with_its_rank_written():
    layers = [(f"layer.{b}.{kind}", b * 2, [64, 32]) for b in range(3) for kind in ("query", HOSTILE)]
    layers.append(("pooler.dense", 8, [64, 64]))
    root = parsed(rank_picture(layers))
    assert len(marks(root, "rect", "cell")) == len(layers)
    assert [t.text for t in marks(root, "text", "cell-rank")] == [str(rank) for _, rank, _ in layers]
    assert "layer.2.query: rank 4, weight 64 × 32" in [t.text for t in root.iter("title")]
    assert not list(root.iter("script"))
    parsed(rank_picture([]))
