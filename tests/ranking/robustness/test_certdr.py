"""Certificates are never broken by trying every attack on short texts, and the certified rate falls with the radius."""

import itertools
import re

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.robustness.certdr import Substitutions, attacks, certify, draw, largest_shift, split_words

VOCABULARY = [f"w{i}" for i in range(12)]


def table_of(rng, size=12):
    """Synonyms in overlapping groups, mutual."""
    pairs = {tuple(sorted(rng.choice(size, 2, replace=False).tolist())) for _ in range(10)}
    table = {}
    for a, b in pairs:
        table.setdefault(f"w{a}", []).append(f"w{b}")
        table.setdefault(f"w{b}", []).append(f"w{a}")
    return Substitutions(table)


def base_scorer(rng):
    """A score in [0, 1] that depends on every word: the mean of the words' values."""
    value = dict(zip(VOCABULARY, rng.random(len(VOCABULARY)).tolist(), strict=True))
    return lambda texts: np.array([np.mean([value[w] for w in re.findall(r"\w+", text)]) for text in texts])


def exactly_smoothed(scores, text, substitutions):
    """Return the mean over all substitutions, by enumeration."""
    parts = split_words(text)
    choices = [substitutions.of(part) if part.strip() else (part,) for part in parts]
    return float(np.mean(scores(["".join(row) for row in itertools.product(*choices)])))


def test_no_attack_breaks_a_certificate():
    certified = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        substitutions, scores = table_of(rng), base_scorer(rng)
        texts = [" ".join(rng.choice(VOCABULARY, 3)) for _ in range(4)]
        found = certify(scores, texts, substitutions, top=1, most=2, rng=rng, draws=800)
        if found.radius < 0:
            continue
        certified += 1
        smoothed = [exactly_smoothed(scores, text, substitutions) for text in texts]
        best = int(np.argmax(smoothed))
        for place, text in enumerate(texts):
            if place != best:
                worst = max(
                    exactly_smoothed(scores, attacked, substitutions)
                    for attacked in attacks(text, substitutions, found.radius)
                )
                assert worst <= smoothed[best] + 1e-9
    assert certified >= 3


def test_the_shift_bounds_every_attack():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        substitutions, scores = table_of(rng), base_scorer(rng)
        text = " ".join(rng.choice(VOCABULARY, 3))
        before = exactly_smoothed(scores, text, substitutions)
        for radius in (0, 1, 2, 3):
            bound = largest_shift(text, substitutions, radius)
            for attacked in attacks(text, substitutions, radius):
                assert abs(exactly_smoothed(scores, attacked, substitutions) - before) <= bound + 1e-9


def test_the_certified_rate_falls_with_the_radius():
    radii = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        substitutions = table_of(rng)
        texts = ["w0 w1 w2", "w3 w4 w5", "w6 w7 w8"]
        scores = {text: float(i == 0) for i, text in enumerate(texts)}
        found = certify(
            lambda asked, scores=scores: np.array([scores.get(text, 0.0) for text in asked]),
            texts, substitutions, top=1, most=3, rng=rng, draws=500,
        )  # fmt: skip
        radii.append(found.radius)
    rates = [float(np.mean(np.array(radii) >= radius)) for radius in range(4)]
    assert rates == sorted(rates, reverse=True)


def test_no_substitutions_are_the_base_ranker_at_any_radius():
    scores = {"a b": 0.9, "c d": 0.1, "e f": 0.3}
    found = certify(
        lambda texts: np.array([scores[text] for text in texts]),
        list(scores), Substitutions({}), top=1, most=4, rng=np.random.default_rng(0), draws=500,
    )  # fmt: skip
    assert found.smoothed == pytest.approx(list(scores.values()))
    assert found.radius == 4
    assert draw("A b", Substitutions({}), np.random.default_rng(0)) == "a b"


def test_the_overlap_is_the_total_variation_of_uniform_draws():
    substitutions = Substitutions({"a": ["b"], "b": ["a", "c"], "c": ["b"]})
    # P_a = {a, b}, P_b = {b, a, c}: sum of min(1/2, 1/3) over {a, b} = 2/3
    assert substitutions.overlap("a") == pytest.approx(2 / 3)
    assert largest_shift("a a", substitutions, 1) == pytest.approx(1 / 3)
    assert largest_shift("a a", substitutions, 2) == pytest.approx(1 - 4 / 9)


@pytest.mark.parametrize(("top", "value", "said"), [(3, 0.5, "more documents"), (1, 2.0, "between 0 and 1")])
def test_what_cannot_be_certified_is_refused(top, value, said):
    with pytest.raises(UsageError, match=said):
        certify(
            lambda texts: np.full(len(texts), value),
            ["a", "b", "c"], Substitutions({}), top=top, most=1, rng=np.random.default_rng(0),
        )  # fmt: skip
