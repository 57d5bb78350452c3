import math

import pytest

from lorank.training.loop.schedule import rate_factor


@pytest.mark.parametrize("decay", ["linear", "cosine", "none"])
def test_warm_up_rises_evenly_to_one(decay):
    factors = [rate_factor(step, 100, 0.1, decay) for step in range(10)]
    assert factors == pytest.approx([(step + 1) / 10 for step in range(10)])


def test_linear_decay_is_a_line_to_zero():
    assert rate_factor(10, 110, 10 / 110, "linear") == pytest.approx(1.0)
    assert rate_factor(60, 110, 10 / 110, "linear") == pytest.approx(0.5)


def test_cosine_is_at_half_in_the_middle():
    assert rate_factor(50, 100, 0.0, "cosine") == pytest.approx(0.5 * (1 + math.cos(math.pi / 2)))


def test_a_run_of_one_step_does_step():
    assert rate_factor(0, 1, 0.1, "linear") == pytest.approx(1.0)
