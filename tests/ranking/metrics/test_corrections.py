"""Benjamini and Hochberg's adjustment against scipy, and what both corrections promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lorank.ranking.metrics.corrections import CORRECTIONS, benjamini_hochberg


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_benjamini_hochberg_is_scipys(p):
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p), rtol=1e-12)


@pytest.mark.parametrize("name", CORRECTIONS)
def test_an_adjusted_p_is_never_smaller_and_keeps_the_order(name):
    p = np.random.default_rng(0).uniform(size=50)
    adjusted = np.array(CORRECTIONS[name](p))
    assert (adjusted >= p - 1e-12).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= -1e-12).all()


@pytest.mark.parametrize("name", CORRECTIONS)
def test_one_p_and_none_stay_as_they_are(name):
    assert CORRECTIONS[name]([]) == []
    assert CORRECTIONS[name]([0.03]) == pytest.approx([0.03])


def test_benjamini_hochberg_finds_no_less_than_holm():
    p = np.random.default_rng(1).beta(0.3, 1, size=40)
    assert (np.array(CORRECTIONS["bh"](p)) <= np.array(CORRECTIONS["holm"](p)) + 1e-12).all()
