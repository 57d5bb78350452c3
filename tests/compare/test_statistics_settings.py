"""The table [statistics]: each value is checked before any work."""

import pytest

from lorank.compare.statistics_settings import StatisticsSettings
from lorank.errors import UsageError


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("correction", "bonferoni"),
        ("pairs", "best"),
        ("confidence", 95),
        ("confidence", 0.3),
        ("confidence", "0.95"),
        ("power", 1.0),
        ("rope", 0),
        ("rope", -0.01),
        ("rope", float("nan")),
        ("rope", float("inf")),
        ("resamples", 50),
        ("resamples", 1000.5),
        ("resamples", True),
        ("seed", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_key(key, value):
    with pytest.raises(UsageError, match=key):
        StatisticsSettings(**{key: value})


def test_the_level_is_what_the_confidence_leaves():
    assert StatisticsSettings(confidence=0.9).level == pytest.approx(0.1)
    assert StatisticsSettings(rope=0.01, pairs="all", correction="bh").level == pytest.approx(0.05)
