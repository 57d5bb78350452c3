"""How numbers are written: what is not finite is a dash everywhere, and rounding never invents a sign."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.reporting import numbers
from lorank.reporting.svg import linear_scale, tick_places, ticks

WRITERS = [
    numbers.decimal,
    numbers.signed_decimal,
    numbers.p_value,
    numbers.count,
    numbers.percent,
    numbers.size,
    numbers.duration,
]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_a_dash(write, value):
    assert write(value) == numbers.ABSENT


@given(st.floats(-1, 1))
def test_a_difference_reads_back_with_its_sign(value):
    text = numbers.signed_decimal(value)
    assert float(text.replace(numbers.MINUS, "-")) == pytest.approx(round(value, 3), abs=1e-12)
    assert text[0] == "0" if round(value, 3) == 0 else text[0] in "+" + numbers.MINUS


@pytest.mark.parametrize(("seconds", "unit"), [(0.5, "ms"), (59.94, "s"), (59.96, "min"), (3599.4, "min"), (3600, "h")])
def test_durations_change_unit_without_saying_sixty(seconds, unit):
    text = numbers.duration(seconds)
    assert unit in text
    assert "60" not in text


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(2, 8))
def test_ticks_enclose_the_range_evenly(low, span, about):
    high = low + span
    if high <= low or span < abs(low) * 1e-9:
        return
    marks = ticks(low, high, about)
    step = marks[1] - marks[0]
    assert marks[0] <= low + 1e-6 * step
    assert marks[-1] >= high - 1e-6 * step
    assert 2 <= len(marks) <= 2 * about + 3


@given(st.floats(1e-4, 100))
def test_tick_labels_are_distinct(span):
    marks = ticks(0, span, 4)
    labels = {numbers.decimal(m, tick_places(marks)) for m in marks}
    assert len(labels) == len(marks)


def test_an_empty_domain_maps_to_the_middle():
    assert linear_scale((2.0, 2.0), (0, 10))(2.0) == 5
