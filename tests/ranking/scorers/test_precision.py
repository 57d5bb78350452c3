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


@pytest.mark.parametrize(("able", "gain", "expected"), [
    (False, 9.0, torch.float32), (True, 1.0, torch.float32), (True, 2.0, torch.bfloat16)])
def test_auto_needs_the_instructions_and_the_gain(able, gain, expected, monkeypatch):
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: able)
    monkeypatch.setattr(precision, "layer_seconds", lambda dtype: gain if dtype is torch.float32 else 1.0)
    assert precision.chosen_dtype("auto", CPU) is expected


def test_the_trial_runs_once_a_process(monkeypatch):
    calls = []
    monkeypatch.setattr(precision, "cpu_multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "layer_seconds", lambda dtype: calls.append(dtype) or 1.0)
    for _ in range(3):
        precision.best_precision("cpu")
    assert len(calls) == 2


def test_the_real_trial_gives_a_format_that_this_machine_has():
    assert precision.best_precision("cpu") in (torch.float32, torch.bfloat16)
    assert precision.layer_seconds(torch.float32, rounds=1) > 0
