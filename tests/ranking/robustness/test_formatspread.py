"""The spread over planted arms is found with fewer evaluations than by asking all alike; formats parse back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.ranking.robustness.formatspread import format_spread
from lorank.ranking.robustness.prompt_formats import all_formats, draw_formats

EXAMPLES = 2000


def arms(seed, count=40):
    """Answers of planted accuracy: most formats near 0.6, one at 0.95, one at 0.2."""
    rng = np.random.default_rng(seed)
    accuracy = np.clip(rng.normal(0.6, 0.05, count), 0, 1)
    accuracy[count // 3], accuracy[count // 2] = 0.95, 0.2
    return accuracy, rng.random((count, EXAMPLES)) < accuracy[:, None]


def test_the_spread_is_found_with_fewer_evaluations_than_uniform_asking():
    errors, uniform, hits = [], [], []
    for seed in range(8):
        accuracy, answers = arms(seed)
        budget = 2400
        found = format_spread(
            lambda arm, places, answers=answers: answers[arm, places],
            range(len(accuracy)), EXAMPLES, budget, rng=np.random.default_rng(seed),
        )  # fmt: skip
        assert found.evaluations <= budget
        assert sum(found.trials) == found.evaluations
        truth = accuracy.max() - accuracy.min()
        errors.append(abs(found.spread - truth))
        each = budget // len(accuracy)
        rates = answers[:, :each].mean(1)
        uniform.append(abs(rates.max() - rates.min() - truth))
        hits.append([found.best == accuracy.argmax(), found.worst == accuracy.argmin()])
    assert np.mean(hits) > 0.7
    assert np.mean(errors) < 0.1
    assert np.mean(errors) < np.mean(uniform) + 0.01


def test_a_plain_format_that_is_always_right_is_no_division_by_zero():
    found = format_spread(
        lambda arm, places: np.full(len(places), arm == 0), [0, 1, 2], 100, 600, rng=np.random.default_rng(0)
    )
    assert found.spread == pytest.approx(1.0)
    assert found.best == 0


@given(st.sampled_from(all_formats()), st.text("abc xyz.", min_size=1), st.text("abc xyz.", min_size=1))
def test_formats_parse_back_to_the_same_fields(form, query, document):
    prompt = form.render("Is it?").replace("$query", query).replace("$documents", document)
    ambiguous = form.gap.strip() == "" or form.gap in document + query or form.separator in document + query
    if not ambiguous or "  " not in query + document:
        parsed = form.parse(prompt)
        assert form.render().replace("$query", parsed["query"]).replace("$documents", parsed["document"]) in prompt
    if form.gap not in query + document and form.gap not in f"{query[-1:]}{form.gap[:-1]}":
        assert form.parse(form.render("Is it?"))["query"] == "$query"


def test_drawn_formats_differ_and_begin_with_the_plain_one():
    formats = draw_formats(20, np.random.default_rng(0))
    assert len(set(formats)) == 20
    assert formats[0].render() == "Query: $query\nDocument: $documents"
    assert all(form.parse(form.render("end")) == {"query": "$query", "document": "$documents"} for form in formats)
    with pytest.raises(UsageError):
        formats[0].parse("another prompt")


@pytest.mark.parametrize(("count", "budget"), [(1, 100), (2, 10)])
def test_too_few_formats_or_too_small_a_budget_are_refused(count, budget):
    with pytest.raises(UsageError):
        format_spread(
            lambda arm, places: np.ones(len(places), bool), range(count), 50, budget, rng=np.random.default_rng(0)
        )
