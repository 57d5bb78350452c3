"""Measures of written answers against the expected ones: closed forms and limits."""

import pytest

from lorank.ranking.metrics.answers import exact_match, normalised_tokens, rouge_l, token_f1

ALL = (exact_match, token_f1, rouge_l)


@pytest.mark.parametrize("measure", ALL)
def test_equal_answers_are_one_and_unlike_ones_zero(measure):
    assert measure("The Dog!", ["dog"]) == pytest.approx(1.0)
    assert measure("cat", ["dog"]) == pytest.approx(0.0)
    assert measure("cat", []) == pytest.approx(0.0)
    assert measure("", [""]) == pytest.approx(1.0)
    assert measure("", ["dog"]) == pytest.approx(0.0)


def test_tokens_repeat_as_often_as_both_have_them_and_order_matters_to_rouge_alone():
    assert token_f1("dog dog cat", ["dog cat cat"]) == pytest.approx(2 * 2 / 6)
    assert token_f1("x y z w", ["w z y x"]) == pytest.approx(1.0)
    assert rouge_l("x y z w", ["w z y x"]) == pytest.approx(2 * 1 / 8)
    assert rouge_l("u x v y", ["x y"]) == pytest.approx(2 * 2 / 6)


def test_articles_and_punctuation_do_not_count():
    assert normalised_tokens("A man, an owl: the end.") == ["man", "owl", "end"]
