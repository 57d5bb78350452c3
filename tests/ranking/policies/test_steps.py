"""adaptivestep: cuts at the quantile of confidence, and the chain that aggregates of its steps' scores pick."""

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.policies.steps import (
    aggregate_steps,
    confidence_threshold,
    step_ends,
    step_options,
)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_share_of_cuts_is_the_quantile(share, seed):
    rng = np.random.default_rng(seed)
    replies = [rng.random(length).tolist() for length in rng.integers(150, 250, 20)]
    threshold = confidence_threshold(replies, share)
    tokens = sum(map(len, replies))
    cuts = sum(len(step_ends(reply, threshold)) - 1 for reply in replies)
    assert abs(cuts - share * tokens) <= len(replies) + 1  # a first token begins a step anyway


def test_steps_follow_each_other_and_end_with_the_reply():
    assert step_ends([0.1, 0.9, 0.2, 0.2, 0.9], 0.5) == [2, 3, 5]
    assert step_ends([0.1], 0.5) == [1]
    assert step_ends([0.9, 0.9], 0.5) == [2]
    assert confidence_threshold([], 0.5) == 0.0  # exact: nothing to cut


@pytest.mark.parametrize("seed", range(3))
def test_min_and_last_pick_the_chain_without_a_wrong_step(seed):
    rng = np.random.default_rng(seed)
    for _ in range(50):
        chains = rng.uniform(0.6, 0.9, (6, 5))
        right = int(rng.integers(6))
        for chain in set(range(6)) - {right}:
            wrong = int(rng.integers(5))
            chains[chain, wrong:] = rng.uniform(0.05, 0.4, 5 - wrong)  # no continuation of a wrong step ends well
        for how in ("min", "last"):
            totals = [aggregate_steps(chain.tolist(), how) for chain in chains]
            assert int(np.argmax(totals)) == right


def test_min_refuses_a_chain_that_recovers_by_luck_and_last_does_not():
    lucky, steady = [0.9, 0.1, 0.95], [0.8, 0.8, 0.8]
    assert aggregate_steps(steady, "min") > aggregate_steps(lucky, "min")
    assert aggregate_steps(steady, "last") < aggregate_steps(lucky, "last")
    assert aggregate_steps(steady, "product") == pytest.approx(0.8**3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, "share must be above 0"),
        ({"share": 1.0}, "below 1"),
        ({"rollouts": 0}, "rollouts 1 or above"),
        ({"aggregate": "mim"}, "did you mean 'min'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        step_options(**options)
    with pytest.raises(UsageError, match="aggregate"):
        aggregate_steps([0.5], "mean")
