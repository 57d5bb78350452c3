import csv
from dataclasses import replace

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.consensus import aggregate, from_rankings, from_table
from lorank.ranking.consensus.leaderboards import read_leaderboard
from lorank.ranking.consensus.vote_n_rank import CARDINAL, ORDINAL, vote_n_rank, winning_weights

VOTE_N_RANK = "vote-n-rank"
GLUE = ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI-m", "MNLI-mm", "QNLI", "RTE", "WNLI"]


def test_textbook_profiles_have_their_known_winners_per_rule():
    # Malkevitch's profile: 55 voters, five candidates, a winner for each rule.
    profile = from_rankings(["adecb", "bedca", "cbeda", "dceba", "ebdca", "ecdba"], [18, 12, 10, 9, 4, 2])
    results = vote_n_rank(profile)
    winners = {rule: merged.tiers[0] for rule, merged in results.items()}
    assert set(results) == set(ORDINAL)
    assert winners["plurality"] == ("a",)
    assert winners["borda"] == ("d",)
    assert winners["copeland"] == winners["minimax"] == winners["baldwin"] == ("e",)


def test_a_planted_outlier_task_moves_the_mean_and_not_the_votes():
    board = from_table(
        {**{f"t{i}": {"steady": 81.0, "lucky": 80.0} for i in range(9)}, "outlier": {"steady": 10.0, "lucky": 99.0}}
    )
    results = vote_n_rank(board)
    assert results["mean"].order[0] == "lucky"
    for rule in ("borda", "copeland", "plurality", "minimax"):
        assert results[rule].order[0] == "steady"


def test_winning_weights_by_hand():
    board = from_table({"t1": {"a": 3, "b": 2, "c": 1}, "t2": {"a": 1, "b": 2, "c": 3}})
    weights, lead = winning_weights(board, "a", "borda")
    assert weights == pytest.approx([1, 0])
    assert lead == pytest.approx(1)
    assert winning_weights(board, "b", "plurality")[1] == pytest.approx(-0.5)
    assert winning_weights(board, "b", "condorcet")[1] == pytest.approx(0)
    assert winning_weights(board, "b", "borda")[1] == pytest.approx(0)


@pytest.mark.parametrize("method", ["plurality", "borda", "dowdall"])
def test_winning_weights_make_the_item_win(method):
    orders = np.random.default_rng(0)
    rankings = [list(orders.permutation(list("abcde"))) for _ in range(6)]
    for item in "abcde":
        weights, lead = winning_weights(from_rankings(rankings), item, method)
        scores = aggregate(from_rankings(rankings, np.maximum(weights, 0)), method).scores
        best_other = max(score for name, score in scores.items() if name != item)
        assert scores[item] - best_other == pytest.approx(lead, abs=1e-9)
    with pytest.raises(UsageError, match="scoring rule"):
        winning_weights(from_rankings(rankings), "a", "kemeny")
    with pytest.raises(UsageError, match="unknown item"):
        winning_weights(from_rankings(rankings), "z", "borda")


def test_glue_is_rebuilt(shared_data):
    path = shared_data / "leaderboards" / "glue.csv"
    board = read_leaderboard(path)
    assert len(board.items) == 100
    assert len(board.names) == 11
    assert len(board.ballot) == 1100 - 3  # three cells are "-", NaN or empty
    results = vote_n_rank(read_leaderboard(path, tasks=GLUE))
    assert set(results) == {*ORDINAL, *CARDINAL}
    for merged in results.values():
        assert len(merged.order) == 100
    # GLUE's own score is the mean over tasks, MNLI's two halves being one: ours, so weighted, is that column.
    halves = {"MNLI-m": 0.5, "MNLI-mm": 0.5}
    weighted = replace(read_leaderboard(path, tasks=GLUE), weight=np.array([halves.get(t, 1.0) for t in GLUE]))
    ours = aggregate(weighted, "mean").scores
    with path.open(encoding="utf-8-sig", newline="") as file:
        published = {
            " ".join(row["Model"].split()): float(row["Score"]) for row in csv.DictReader(file) if row["Score"] != "-"
        }
    close = [abs(ours[name] - published[name]) <= 0.11 for name in published if name in ours]
    assert len(close) > 90
    assert np.mean(close) > 0.9
    # The human baseline is first by plurality (most tasks won) and not by Borda or by the mean.
    assert results["plurality"].order[0] == "GLUE Human Baselines"
    assert results["borda"].order[0] == results["mean"].order[0] == "ERNIE"


def test_value_has_systems_without_some_scores(shared_data):
    board = read_leaderboard(shared_data / "leaderboards" / "value.csv")
    assert (len(board.items), len(board.names)) == (7, 11)
    for merged in vote_n_rank(board).values():
        assert len(merged.order) == 7
