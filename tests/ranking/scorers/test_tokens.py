"""Assembled pairs equal the tokenizer's own; truncation is counted; windows cover."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from lorank.errors import UsageError
from lorank.ranking.scorers.tokens import Span, Template, passages, share_room, tokenize, windows

QUERIES = ["list", "how are documents ordered by rankers", "", "what is the moon? " * 9]


def table_of_all(tokenizer, texts, limit=64):
    table = tokenize(tokenizer, texts, limit)
    assert table.ids.dtype == np.int32
    return table


def test_token_ids_are_the_tokenizers(tiny, documents):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    table = table_of_all(tokenizer, documents)
    for i, text in enumerate(documents):
        assert table.row(i).tolist() == tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]


@pytest.mark.parametrize("strategy", ["only_second", "longest_first"])
def test_pairs_equal_the_tokenizers_own(tiny, documents, strategy):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    template = Template.of(tokenizer)
    max_length = 48
    room = max_length - template.pair_cost
    queries, table = table_of_all(tokenizer, QUERIES), table_of_all(tokenizer, documents)
    compared = 0
    for q, query in enumerate(QUERIES):
        if strategy == "only_second" and queries.lengths[q] > room // 2:
            continue
        rows = np.full(len(documents), q)
        kept_q, kept_d = share_room(queries.lengths[rows], table.lengths, room)
        zero = np.zeros_like(rows)
        batch = template.assemble_pair(
            queries, Span(rows, zero, kept_q), table, Span(np.arange(len(documents)), zero, kept_d)
        )
        ours = batch.pad(
            tokenizer.pad_token_id, torch.device("cpu"), with_types="token_type_ids" in tokenizer.model_input_names
        )
        theirs = tokenizer(
            [query] * len(documents),
            documents,
            truncation=strategy,
            max_length=max_length,
            padding=True,
            return_tensors="pt",
        )
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert torch.equal(ours[name], theirs[name]), (name, query)
        compared += 1
    assert compared >= 3


def test_single_texts_equal_the_tokenizers_own(tiny, documents):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    template = Template.of(tokenizer)
    table = table_of_all(tokenizer, documents)
    start, length = template.cut(table.lengths, 30 - template.single_cost)
    batch = template.assemble_single(table, Span(np.arange(len(documents)), start, length))
    ours = batch.pad(tokenizer.pad_token_id, torch.device("cpu"), with_types=False)
    theirs = tokenizer(documents, truncation=True, max_length=30, padding=True, return_tensors="pt")
    assert torch.equal(ours["input_ids"], theirs["input_ids"])
    assert torch.equal(ours["attention_mask"], theirs["attention_mask"])


def test_cutting_from_the_left_keeps_the_end(tiny_folders):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folders["bert"], truncation_side="left")
    template = Template.of(tokenizer)
    text = "the moon orbits the earth and the sun " * 5
    table = tokenize(tokenizer, [text], 10)
    start, length = template.cut(table.lengths, 10)
    batch = template.assemble_single(table, Span(np.array([0]), start, length))
    assert batch.ids.tolist() == tokenizer(text, truncation=True, max_length=10 + template.single_cost)["input_ids"]


def test_truncation_is_counted(tiny_folders):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folders["bert"])
    texts = ["moon " * n for n in (3, 10, 11, 40)]
    lengths = [len(tokenizer(t, add_special_tokens=False)["input_ids"]) for t in texts]
    table = tokenize(tokenizer, texts, limit=lengths[1])
    assert table.lengths.tolist() == lengths
    assert table.truncated == 2
    assert tokenize(tokenizer, [], 5).truncated == 0


def test_tokenizing_undoes_a_tokenizers_own_truncation(tiny_folders):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folders["bert"])
    tokenizer("moon " * 50, truncation=True, max_length=5, padding="max_length")
    assert tokenize(tokenizer, ["moon " * 50], 5).lengths[0] >= 50


def test_only_strings_are_tokenised(tiny_folders):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folders["bert"])
    with pytest.raises(UsageError, match="document 1 is of type int, not a string"):
        tokenize(tokenizer, ["a", 3], 5)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), min_size=1, max_size=8), st.integers(0, 12))
@settings(max_examples=80, deadline=None)
def test_windows_cover_every_token_and_stay_in_the_room(rows, overlap):
    lengths, room = (np.array(column) for column in zip(*rows))
    owner, start, length = windows(lengths, room, overlap)
    assert (np.diff(owner) >= 0).all()
    assert set(owner) == set(range(len(rows)))
    for text in range(len(rows)):
        mine = owner == text
        covered = {t for s, n in zip(start[mine], length[mine]) for t in range(s, s + n)}
        assert covered == set(range(lengths[text]))
        assert (length[mine] == min(lengths[text], room[text])).all()
        if mine.sum() > 1:
            assert (start[mine][:-2] + length[mine][:-2] - start[mine][1:-1] == min(overlap, room[text] - 1)).all()


@given(st.integers(0, 50), st.integers(0, 50), st.integers(2, 40))
@settings(max_examples=100, deadline=None)
def test_shared_room_is_used_whole_and_never_exceeded(first, second, room):
    a, b = (int(x[0]) for x in share_room(np.array([first]), np.array([second]), room))
    assert a + b == min(first + second, room)
    assert a <= first
    assert b <= second
    if first <= room // 2:
        assert a == first


def test_passages_are_pieces_of_the_text(tiny_folders):
    tokenizer = AutoTokenizer.from_pretrained(tiny_folders["bert"])
    text = "the moon orbits the earth, and the words are sorted in a list " * 4
    parts = passages(text, tokenizer, tokens=12, overlap=4)
    assert len(parts) > 3
    assert all(part in text for part in parts)
    assert text.startswith(parts[0])
    assert text.rstrip().endswith(parts[-1])
    with pytest.raises(UsageError, match="overlap=12"):
        passages(text, tokenizer, tokens=12, overlap=12)
