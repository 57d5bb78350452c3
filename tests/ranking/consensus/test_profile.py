import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.ranking.consensus import as_profile, from_counts, from_duels, from_rankings, from_table

tables = st.dictionaries(
    st.sampled_from(["u", "v", "w"]),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 4), min_size=1),
    min_size=1,
)


@given(tables)
def test_places_and_pairs_are_what_loops_count(table):
    profile = from_table(table)
    above, tied, below = profile.places()
    for row in range(len(profile.ballot)):
        scores = table[profile.names[profile.ballot[row]]]
        mine = scores[profile.items[profile.item[row]]]
        others = list(scores.values())
        assert above[row] == sum(score > mine for score in others)
        assert tied[row] == others.count(mine) - 1
        assert below[row] == sum(score < mine for score in others)
    preferred = profile.preferences()
    for i, first in enumerate(profile.items):
        for j, second in enumerate(profile.items):
            both = [row for row in table.values() if first in row and second in row] if i != j else []
            assert preferred[i, j] == sum((row[first] > row[second]) + (row[first] == row[second]) / 2 for row in both)


def test_pairs_count_wins_losses_and_draws_apart():
    counts = from_duels([("b", "a"), ("a", "b"), ("b", "a"), ("a", "b", 0.5), ("a", "c", 0)]).pairs()
    assert counts.first.tolist() == [0, 0]
    assert counts.second.tolist() == [1, 2]
    assert counts.wins.tolist() == [1, 0]
    assert counts.losses.tolist() == [2, 1]
    assert counts.draws.tolist() == [1, 0]


def test_pairs_of_large_and_many_ballots_are_counted_in_parts(monkeypatch):
    rng = np.random.default_rng(0)
    orders = [[f"{item:02d}" for item in rng.permutation(30)] for _ in range(20)]
    whole = from_rankings(orders).preferences()
    monkeypatch.setattr("lorank.ranking.consensus.profile._PAIRS_AT_ONCE", 500)
    assert (from_rankings(orders).preferences() == whole).all()
    assert (whole + whole.T)[np.triu_indices(30, 1)].tolist() == pytest.approx([20.0] * 435)


def test_what_is_said_is_recognised():
    assert as_profile([("a", "b"), ("b", "a", 0.5)]).level.tolist() == [0, 1, 0, 0]
    assert as_profile([["a", "b"], ["b", ("a", "c")]]).sizes().tolist() == [2, 3]
    assert as_profile(["abc"]).items == ("a", "b", "c")
    assert as_profile({"task": {"x": 1.0}}).names == ("task",)
    profile = from_rankings(["ab"])
    assert as_profile(profile) is profile


def test_lower_is_better_and_weights_by_name():
    profile = from_table(
        {"accuracy": {"x": 0.9, "y": 0.8}, "loss": {"x": 3.0, "y": 2.0}},
        weights={"loss": 2.0},
        lower_is_better=["loss"],
    )
    assert profile.weight.tolist() == pytest.approx([1.0, 2.0])
    assert profile.preferences().tolist() == pytest.approx(np.array([[0.0, 1.0], [2.0, 0.0]]))
    assert sorted(profile.score.tolist()) == pytest.approx([-3.0, -2.0, 0.8, 0.9])


def test_missing_last_ties_below_and_takes_the_lowest_score():
    profile = from_table({"t": {"x": 5.0, "y": 1.0}, "u": {"z": 2.0}}).with_missing_last()
    assert profile.sizes().tolist() == [3, 3]
    assert profile.level.tolist() == [0, 1, 2, 0, 1, 1]
    assert profile.score.tolist() == pytest.approx([5.0, 1.0, 1.0, 2.0, 2.0, 2.0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: from_rankings([["a", "b", "a"]]), "ranking 1 lists 'a' twice"),
        (lambda: from_rankings(["ab"], weights=[1, 2]), "do not fit 1 ballots"),
        (lambda: from_rankings(["ab"], weights=[-1]), "from 0 up"),
        (lambda: from_rankings(["ab"], weights=[np.nan]), "finite"),
        (lambda: from_rankings(["ab"], items="a"), "'b', which is not among the items"),
        (lambda: from_rankings([[[1, 2]]]), "is not a string"),
        (lambda: from_duels([("a", "a")]), "against itself"),
        (lambda: from_duels([("a", "b", 2)]), "the outcome 2"),
        (lambda: from_table({"t": {"a": np.nan}}), "NaN or infinite"),
        (lambda: from_table({"t": {"a": 1}}, lower_is_better=["u"]), "not among the voters"),
        (lambda: from_table({"t": {"a": 1}}, weights={"u": 1}), "not among the voters"),
        (lambda: from_counts("ab", np.zeros((3, 3))), "do not fit 2 items"),
        (lambda: from_counts("ab", np.eye(2)), "zeros on the diagonals"),
        (lambda: from_counts("ab", np.zeros((2, 2)), np.array([[0, 1], [0, 0]])), "must be symmetric"),
    ],
)
def test_bad_ballots_are_named(build, message):
    with pytest.raises(UsageError, match=message):
        build()
