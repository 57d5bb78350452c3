"""International football as duels with draws: the table of the 2010s, rebuilt from results."""

import csv
import gzip

import numpy as np
import pytest

from lorank.ranking.consensus import aggregate, from_duels
from lorank.ranking.consensus.bradley_terry import fit
from lorank.ranking.consensus.ratings import rate


@pytest.fixture(scope="module")
def matches(shared_data):
    with gzip.open(shared_data / "football-internationals" / "results.csv.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["home_score"] != "NA"]
    assert 49_000 < len(rows) < 51_000
    return rows


def duel(row):
    home, away = int(row["home_score"]), int(row["away_score"])
    return row["home_team"], row["away_team"], (home > away) + 0.5 * (home == away)


@pytest.fixture(scope="module")
def decade(matches):
    return [row for row in matches if "2010" <= row["date"][:4] <= "2019"]


def test_bradley_terry_with_ties_knows_the_strong(decade):
    profile = from_duels([duel(row) for row in decade])
    strong = {"Brazil", "Spain", "Germany", "Argentina", "France", "Belgium", "Netherlands", "Portugal"}
    for ties in ("half", "davidson"):
        top = aggregate(profile, "bradley-terry", ties=ties).order[:12]
        assert len(strong & set(top)) >= 6
    assert aggregate(profile, "bradley-terry").order[0] in strong


def test_the_share_of_draws_is_the_models(decade):
    counts = from_duels([duel(row) for row in decade]).pairs()
    items = int(max(counts.first.max(), counts.second.max())) + 1
    found = fit(counts, items, ties="davidson")
    gap = np.exp((found.strengths[counts.first] - found.strengths[counts.second]) / 2)
    drawn = 2 * found.nu / (gap + 1 / gap + 2 * found.nu)
    met = counts.wins + counts.losses + counts.draws
    assert (drawn * met).sum() == pytest.approx(counts.draws.sum(), rel=1e-6)


def test_strengths_predict_the_next_year_better_than_home_and_away(matches, decade):
    strengths = aggregate(from_duels([duel(row) for row in decade]), "bradley-terry").scores
    after = [duel(row) for row in matches if row["date"].startswith("2021")]
    known = [
        (strengths[a] > strengths[b], outcome)
        for a, b, outcome in after
        if a in strengths and b in strengths and outcome != 0.5
    ]
    right = np.mean([guess == (outcome == 1) for guess, outcome in known])
    home = np.mean([outcome == 1 for _, outcome in known])
    assert right > home + 0.1


def test_online_ratings_agree_with_strengths(decade):
    profile = from_duels([duel(row) for row in decade[-2000:]])
    ratings = rate(profile)[:, 0]
    strengths = np.array(list(aggregate(profile, "bradley-terry").scores.values()))
    assert np.corrcoef(ratings, strengths)[0, 1] > 0.8
