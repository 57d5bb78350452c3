"""The number format that a machine gains from."""

import pytest
import torch

from lorank.errors import UsageError
from lorank.ranking.scorers import precision

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _forget():
    precision.best_precision.cache_clear()
    yield
    precision.best_precision.cache_clear()


def test_named_formats():
    assert precision.chosen_dtype("float32", CPU) is torch.float32
    assert precision.chosen_dtype("bfloat16", CPU) is torch.bfloat16
    with pytest.raises(UsageError, match="float16"):
        precision.chosen_dtype("float16", CPU)


@pytest.mark.parametrize(("able", "expected"), [(False, torch.float32), (True, torch.bfloat16)])
def test_auto_is_what_the_hardware_has(able, expected, monkeypatch):
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: able)
    assert precision.chosen_dtype("auto", CPU) is expected
