"""Online cut-offs cover what they promise, over all and, for the strongly adaptive one, in every stretch."""

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.calibration.sf_ogd import SFOGD
from lorank.ranking.calibration.streams import ONLINE, follow


def shifted(seed, stretch=500):
    """Nonconformity whose level and spread jump three times."""
    rng = np.random.default_rng(seed)
    levels, spreads = (0.0, 3.0, -1.0, 1.0), (0.3, 0.6, 0.3, 0.5)
    return np.concatenate([rng.normal(a, b, stretch) for a, b in zip(levels, spreads, strict=True)])


@pytest.mark.parametrize("name", sorted(ONLINE))
def test_the_coverage_is_kept_over_a_stream_that_shifts(name):
    found = [follow(name, shifted(seed), 0.1, 6.0, 0.0).coverage for seed in range(3)]
    assert np.mean(found) == pytest.approx(0.9, abs=0.03)


def test_the_strongly_adaptive_one_covers_every_window_and_a_fixed_cutoff_does_not():
    worst, fixed = [], []
    for seed in range(3):
        observed = shifted(seed)
        worst.append(follow("saocp", observed, 0.1, 6.0, 0.0).worst_window(200))
        cut = np.quantile(observed[:300], 0.9)
        fixed.append(min((observed[i : i + 200] <= cut).mean() for i in range(0, 1800)))
    assert np.mean(worst) > 0.7
    assert np.mean(fixed) < 0.2


def test_the_scale_free_step_does_not_depend_on_the_unit():
    observed = shifted(0, 50)
    one, other = (follow("sf-ogd", unit * observed, 0.1, unit * 6.0, 0.0) for unit in (1.0, 1000.0))
    assert other.cutoffs == pytest.approx(1000.0 * one.cutoffs)
    assert (other.covered == one.covered).all()


def test_every_step_of_sf_ogd_is_by_the_equation():
    cutoff = SFOGD(0.2, 3.0**0.5)
    value = squares = 0.0
    for observed in (1.0, -1.0, 0.5, 0.9):
        slope = (observed > value) - 0.2
        squares += slope**2
        value += slope / squares**0.5
        cutoff.update(observed)
        assert cutoff.value == pytest.approx(value)


def test_bad_input_is_refused():
    with pytest.raises(UsageError, match="did you mean 'saocp'"):
        follow("saop", [1.0], 0.1, 1.0, 0.0)
    with pytest.raises(UsageError, match="no query"):
        follow("saocp", [], 0.1, 1.0, 0.0)
    with pytest.raises(UsageError, match="alpha"):
        follow("saocp", [1.0], 1.0, 1.0, 0.0)
