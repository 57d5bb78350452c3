"""The one-sentence verdict: it follows the corrected p, never the sign alone."""

import math
from dataclasses import replace

import pytest

from lorank.ranking.metrics.evaluation import Comparison, Evaluation, SystemResult
from lorank.reporting import verdict
from lorank.reporting.verdict import comparisons_of, outcome, reverse_comparison


def judged(means: dict[str, float], *comparisons: Comparison) -> Evaluation:
    systems = {
        n: SystemResult({"nDCG@10": m}, {"nDCG@10": (m - 0.01, m + 0.01)}, {"nDCG@10": {"q": m}}, 0.5)
        for n, m in means.items()
    }
    return Evaluation("pydocs", "test", ["nDCG@10"], 1, systems, list(comparisons), {})


def pair(system: str, baseline: str, difference: float, p_holm: float) -> Comparison:
    return Comparison(
        system, baseline, "nDCG@10", difference, (difference - 0.01, difference + 0.02), p_holm / 2, p_holm, 5, 3, 1
    )


@pytest.mark.parametrize(
    ("difference", "p_holm", "expected"),
    [
        (0.1, 0.049, "better"),
        (0.1, 0.05, "tie"),
        (-0.1, 0.049, "worse"),
        (-0.1, 0.9, "tie"),
        (0.0, 0.001, "tie"),
        (0.1, math.nan, "untested"),
    ],
)
def test_the_outcome_follows_the_corrected_p(difference, p_holm, expected):
    assert outcome(pair("new", "old", difference, p_holm)) == expected


def test_better_than_the_strongest_other_system():
    said = verdict(
        judged(
            {"old": 0.4, "strong": 0.5, "new": 0.6}, pair("new", "old", 0.2, 0.001), pair("new", "strong", 0.1, 0.01)
        )
    )
    assert (said.outcome, said.system, said.baseline) == ("better", "new", "strong")
    assert "new is better than strong, the strongest other system" in said.sentence
    assert "+0.100 [+0.090, +0.120]" in said.sentence
    assert said.sentence.count(". ") == 0


def test_of_systems_with_one_mean_the_last_is_the_strongest_and_was_tested():
    """A step of a cascade that was put away leaves the order of the step before as it is."""
    ladder = judged(
        {"first": 0.4, "step": 0.4, "new": 0.6}, pair("new", "first", 0.2, 0.01), pair("new", "step", 0.2, 0.01)
    )
    said = verdict(ladder)
    assert "new is better than step, the strongest other system" in said.sentence
    assert "not tested" not in said.sentence


def test_a_tie_is_said_plainly():
    said = verdict(judged({"old": 0.4, "new": 0.6}, pair("new", "old", 0.2, 0.05)))
    assert said.outcome == "tie"
    assert "a tie with old" in said.sentence
    assert "cannot be told from chance" in said.sentence
    assert "better" not in said.sentence


def test_a_pair_given_the_other_way_round_is_turned():
    said = verdict(judged({"old": 0.6, "new": 0.4}, pair("old", "new", 0.2, 0.001)))
    assert said.outcome == "worse"
    assert "−0.200 [−0.220, −0.190]" in said.sentence


def test_an_untested_strongest_system_is_named():
    said = verdict(judged({"old": 0.4, "strong": 0.5, "new": 0.6}, pair("new", "old", 0.2, 0.001)))
    assert said.baseline == "old"
    assert "not tested against strong" in said.sentence


def test_without_a_paired_test_nothing_is_claimed():
    said = verdict(judged({"old": 0.4, "new": 0.6}))
    assert said.outcome == "untested"
    assert "better than" not in said.sentence
    assert verdict(judged({"only": 0.4})).outcome == "alone"
    assert verdict(judged({})) is None


def test_turning_twice_changes_nothing():
    one = pair("a", "b", 0.1, 0.2)
    assert reverse_comparison(reverse_comparison(one)) == one


def test_comparisons_follow_the_ladder(evaluation):
    made = evaluation(queries=20)
    shuffled = replace(made, comparisons=made.comparisons[::-1])
    last = list(made.systems)[-1]
    assert [c.baseline for c in comparisons_of(shuffled, last, "nDCG@10")] == list(made.systems)[:-1]
