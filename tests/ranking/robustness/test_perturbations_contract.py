"""What every perturbation promises, whatever it does to a text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import DataError, UsageError
from lorank.ranking.robustness import PERTURBATIONS, perturb
from lorank.ranking.robustness.noise import NEIGHBOURS, mistype
from lorank.ranking.robustness.perturbation import Around
from lorank.ranking.robustness.query_types import type_of
from lorank.ranking.robustness.rewordings import packaged_synonyms, read_synonyms

every = pytest.mark.parametrize("name", sorted(PERTURBATIONS))
TEXT = "a quick method of sorting very large lists of words in a small house"
AROUND = Around(query="red foxes")


@every
@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60), st.integers(0, 1000))
def test_any_text_comes_back_as_text_and_the_same_for_the_same_seed(name, text, seed):
    one, other = (perturb(name, text, np.random.default_rng(seed), AROUND) for _ in range(2))
    assert isinstance(one, str)
    assert one == other


@every
def test_a_usual_text_changes_and_only_none_changes_nothing(name):
    changed = [perturb(name, TEXT, np.random.default_rng(seed), AROUND) != TEXT for seed in range(10)]
    assert any(changed) == (name != "none")
    assert PERTURBATIONS[name].name == name


@every
def test_attacks_are_of_documents_and_keep_their_text(name):
    each = PERTURBATIONS[name]
    if each.attack:
        assert each.on == "document"
        assert TEXT in perturb(name, TEXT, np.random.default_rng(0), AROUND)


def test_order_and_deletion_keep_the_words():
    rng = np.random.default_rng(0)
    assert sorted(perturb("order", TEXT, rng).split()) == sorted(TEXT.split())
    assert len(perturb("deletion", TEXT, rng).split()) == len(TEXT.split()) - 1
    assert perturb("deletion", "alone", rng) == "alone"
    assert len(perturb("truncation", TEXT, rng).split()) == round(0.3 * len(TEXT.split()))


def test_stuffing_holds_the_query_five_times_and_injection_once_in_front():
    stuffed = perturb("stuffing", "a text", np.random.default_rng(0), AROUND)
    assert stuffed.split().count("red") == stuffed.split().count("foxes") == 5
    assert perturb("injection", "a text", np.random.default_rng(0), AROUND).startswith("red foxes")


@settings(max_examples=60, deadline=None)
@given(st.text("abcdefghijklmnopqrstuvwxyz", min_size=4, max_size=12), st.integers(0, 10_000))
def test_a_typing_error_is_one_edit_and_spares_the_first_letter(word, seed):
    wrong = mistype(word, np.random.default_rng(seed))
    assert wrong[0] == word[0]
    assert abs(len(wrong) - len(word)) <= 1
    if len(wrong) == len(word):
        different = [i for i, (a, b) in enumerate(zip(wrong, word, strict=True)) if a != b]
        assert len(different) <= 2


def test_neighbours_of_the_keyboard_are_mutual():
    assert all(letter in NEIGHBOURS[other] for letter, row in NEIGHBOURS.items() for other in row)
    assert set(NEIGHBOURS["a"]) >= set("qzs")


def test_synonyms_are_of_the_table_and_mutual(tmp_path):
    table = packaged_synonyms()
    assert len(table) > 100
    assert all(word in table[other] for word, row in table.items() for other in row)
    path = tmp_path / "own.txt"
    path.write_text("# a domain of one's own\nadapter, lora\nrank order\n")
    own = read_synonyms(path)
    assert own == {"adapter": ("lora",), "lora": ("adapter",), "rank": ("order",), "order": ("rank",)}
    assert perturb("synonyms", "the Adapter", np.random.default_rng(0), Around(synonyms=own)) == "the lora"
    path.write_text("adapter lora\nalone\n")
    with pytest.raises(DataError, match="2: a group of one word"):
        read_synonyms(path)


def test_a_name_of_none_is_met_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'stuffing'"):
        perturb("stufing", "a", np.random.default_rng(0))


def test_types_of_queries():
    assert type_of("what is a rank?") == type_of("is it so") == "question"
    assert type_of("a b c d e f g h i") == "long"
