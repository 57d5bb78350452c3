"""e2rank: vectors reused, no feedback is retrieval, and feedback helps where words do not match."""

import numpy as np
import pytest

from lorank.catalogue import METHODS
from lorank.errors import UsageError
from lorank.ranking.losses.rewards import ndcg
from lorank.ranking.scorers import BiEncoder
from lorank.ranking.strategies.e2rank import INSTRUCTION, e2rank, fitting_prompt, listwise_prompt


class Words:
    """Counts of the words of a fixed vocabulary; remembers what it encoded."""

    def __init__(self, vocabulary):
        self.place = {word: i for i, word in enumerate(vocabulary)}
        self.encoded = []

    def encode(self, texts, *, query=False):
        self.encoded += list(texts)
        counts = np.zeros((len(texts), len(self.place)))
        for row, text in zip(counts, texts):
            for word in text.split():
                if word in self.place:
                    row[self.place[word]] += 1
        return counts


def collection(seed, topics=5, words=12, each=10):
    rng = np.random.default_rng(seed)
    vocabulary = [f"t{t}w{w}" for t in range(topics) for w in range(words)]
    documents = [" ".join(f"t{t}w{w}" for w in rng.integers(0, words, 8)) for t in range(topics) for _ in range(each)]
    labels = [[int(i // each == t) for i in range(len(documents))] for t in range(topics)]
    return vocabulary, documents, labels


def test_feedback_is_no_worse_than_retrieval_in_a_miniature():
    before, after = [], []
    for seed in range(4):
        vocabulary, documents, labels = collection(seed)
        for topic in range(5):
            encoder = Words(vocabulary)
            plain = e2rank(f"t{topic}w0", documents, encoder, feedback=0)
            fed = e2rank(f"t{topic}w0", documents, encoder, feedback=3)
            before.append(ndcg(plain.order, labels[topic]))
            after.append(ndcg(fed.order, labels[topic]))
    assert np.mean(after) >= np.mean(before) + 0.05


def test_documents_are_encoded_once_or_never():
    vocabulary, documents, _ = collection(0)
    encoder = Words(vocabulary)
    vectors = encoder.encode(documents)
    encoder.encoded.clear()
    done = e2rank("t1w0", documents, encoder, vectors=vectors, feedback=5)
    assert encoder.encoded == ["t1w0", done.prompt]
    head, *listed, query = done.prompt.splitlines()[1:]
    assert done.prompt.startswith(f"{INSTRUCTION}:\nDocuments:\n[1] ")
    assert (head, query, len(listed)) == ("Documents:", "Search Query: t1w0", 5)
    encoder.encoded.clear()
    assert e2rank("t1w0", documents, encoder, feedback=5).order == done.order
    assert encoder.encoded == [*documents, "t1w0", done.prompt]


def test_an_empty_list_is_retrieval(tiny):
    encoder = BiEncoder(tiny)
    texts = ["sorting a list", "the moon and the earth", "low-rank adaptation", "a document"]
    done = e2rank("ranking", texts, encoder, feedback=0)
    assert done.prompt == "ranking"
    assert done.order == tuple(ranked.index for ranked in encoder.rank("ranking", texts))
    assert sorted(e2rank("ranking", texts, encoder, feedback=2).order) == [0, 1, 2, 3]


def test_a_prompt_is_cut_so_that_the_model_reads_the_query_at_its_end(minilm):
    encoder = BiEncoder(minilm, max_length=80)
    documents = ["the moon orbits the earth and the sun " * 20, "sorting a list of words " * 9, "a document"]
    written = fitting_prompt(encoder)("list of words", documents)
    shown = max(len(line.split()) - 1 for line in written.splitlines()[2:-1])

    def tokens(words):
        prompt = listwise_prompt("list of words", documents, words)
        return len(encoder.tokenizer(prompt, add_special_tokens=False)["input_ids"])

    assert written == listwise_prompt("list of words", documents, shown)
    assert shown > 0
    assert tokens(shown) <= encoder.room < tokens(shown + 1)
    assert fitting_prompt(encoder)("q", ["x"]) == listwise_prompt("q", ["x"], 1)


def test_where_there_is_no_room_the_instruction_goes_and_then_the_documents(minilm):
    documents = ["the moon orbits the earth", "sorting a list of words"]
    without = fitting_prompt(BiEncoder(minilm, max_length=26))("moon", documents)
    assert without.startswith("Documents:\n[1] the")
    assert without.endswith("Search Query: moon")
    assert fitting_prompt(BiEncoder(minilm, max_length=10))("moon", documents) == "moon"


def test_what_is_listed_are_the_first_as_they_came_or_the_nearest():
    vocabulary, documents, _ = collection(0)
    given = e2rank("t4w0", documents, Words(vocabulary), feedback=3, listed="given")
    assert given.prompt == listwise_prompt("t4w0", documents[:3], 1024)
    nearest = e2rank("t4w0", documents, Words(vocabulary), feedback=3, listed="retrieval")
    first = e2rank("t4w0", documents, Words(vocabulary), feedback=0).order[:3]
    assert nearest.prompt == listwise_prompt("t4w0", [documents[i] for i in first], 1024)
    with pytest.raises(UsageError, match="value of listed"):
        e2rank("q", documents, Words(vocabulary), listed="all")


def test_limits_and_bad_input():
    vocabulary, documents, _ = collection(0)
    encoder = Words(vocabulary)
    assert e2rank("q", [], encoder).order == ()
    assert e2rank("unknown", documents, encoder, feedback=0).order == tuple(range(len(documents)))
    with pytest.raises(UsageError, match="2 vectors for 50 documents"):
        e2rank("q", documents, encoder, vectors=np.zeros((2, 60)))
    with pytest.raises(UsageError, match="0 or above"):
        e2rank("q", documents, encoder, feedback=-1)
    assert METHODS["e2rank"].area == "rerank"
