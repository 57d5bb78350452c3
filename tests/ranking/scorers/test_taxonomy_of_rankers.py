"""deep-look-nrm shows: every text scorer and every loss is tagged by the axes, and every cell has a model."""

import numpy as np
import pytest

from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES
from lorank.ranking.losses.learning import LEARNING, learning, learnings
from lorank.ranking.scorers import BM25, RANKERS, BiEncoder, BothWays, CrossEncoder, PyramidEncoder
from lorank.ranking.scorers.taxonomy import AXES, CELLS, PROBES, SCORERS, is_symmetric, place, taxonomy
from lorank.ranking.scorers.text_ranker import TextRanker

FEATURES = {"features", "trees"}
"""Kinds that read rows of numbers: a query is no text there that could change places with a document."""


@pytest.fixture(scope="module")
def places(tiny_folders, tiny_causals):
    """Where every scorer stands, on tiny random models."""
    return taxonomy({"encoder": tiny_folders["bert"], "causal": tiny_causals["llama"]})


def test_deep_look_nrm_every_kind_of_text_scorer_is_tagged_and_every_cell_has_a_model(places):
    assert {scorer.kind for scorer in SCORERS.values()} == {RANKERS[kind] for kind in RANKERS.keys() - FEATURES}
    assert places.keys() == SCORERS.keys()
    assert {own.cell for own in places.values()} == set(CELLS)
    assert len(CELLS) == len(set(CELLS)) == 8


@pytest.mark.parametrize(("name", "cell"), [
    ("bi-encoder", ("symmetric", "representation", "single")),
    ("bi-encoder, query prefix", ("asymmetric", "representation", "single")),
    ("bi-encoder, best passage", ("asymmetric", "representation", "multi")),
    ("bi-encoder, best passage, both ways", ("symmetric", "representation", "multi")),
    ("cross-encoder", ("asymmetric", "interaction", "single")),
    ("cross-encoder, both ways", ("symmetric", "interaction", "single")),
    ("cross-encoder, best passage", ("asymmetric", "interaction", "multi")),
    ("pyramid", ("asymmetric", "interaction", "multi")),
    ("pyramid, both ways", ("symmetric", "interaction", "multi")),
    ("causal, yes or no", ("asymmetric", "interaction", "single")),
])
def test_the_places_of_well_known_architectures(places, name, cell):
    assert places[name].cell == cell


def test_deep_look_nrm_every_loss_is_tagged_by_what_its_gradient_does():
    tags = learnings()
    assert tags.keys() == LOSSES.keys()
    assert set(tags.values()) == set(LEARNING) == set(AXES["learning"])
    textbook = {"bce": "pointwise", "mse": "pointwise", "ordinal": "pointwise", "ranknet": "pairwise",
                "hinge": "pairwise", "margin-mse": "pairwise", "dpo": "pairwise", "softmax": "listwise",
                "listmle": "listwise", "approxndcg": "listwise", "lambda": "listwise", "kl": "listwise"}
    assert {name: tags[name] for name in textbook} == textbook


def test_what_is_known_of_one_gradient_is_what_is_measured(monkeypatch):
    def pairs_of_neighbours(scores, labels, mask, weights=None):
        return (scores[:, 1:] * scores[:, :-1]).sum() + (labels * scores).sum()

    made = {"alone": lambda scores, labels, mask: (scores**3 * labels).sum(), "pairs": pairs_of_neighbours,
            "three": lambda scores, labels, mask: scores[:, :3].prod(1).sum(),
            "labels": lambda scores, labels, mask: (scores * labels / labels.sum()).sum()}
    for name, function in made.items():
        monkeypatch.setitem(LOSSES, name, function)
    monkeypatch.setattr("lorank.ranking.losses.learning.loss", made.__getitem__)
    assert {name: learning(name) for name in made} == {
        "alone": "pointwise", "pairs": "pairwise", "three": "listwise", "labels": "pairwise"}


def test_an_unknown_loss_or_base_is_refused():
    with pytest.raises(UsageError, match="ranknet"):
        learning("rank-net")
    with pytest.raises(UsageError, match="encoder"):
        taxonomy({"encodr": "minilm"})


def test_symmetry_is_measured_on_the_ranker_as_it_stands(tiny_folders):
    assert is_symmetric(BiEncoder(tiny_folders["roberta"], query_prefix="of ", document_prefix="of "))
    assert not is_symmetric(BiEncoder(tiny_folders["roberta"], query_prefix="of "))
    assert is_symmetric(BiEncoder(tiny_folders["bert"], long="max"), [text[:40] for text in PROBES])
    with pytest.raises(UsageError, match="one score"):
        place(CrossEncoder(tiny_folders["bert"]))      # a new head scores 0 everywhere
    with pytest.raises(UsageError, match="three different texts"):
        is_symmetric(BiEncoder(tiny_folders["bert"]), PROBES[:2])


def test_granularity_goes_by_passages_and_by_layers(tiny_folders):
    of = tiny_folders["bert"]
    options = SCORERS["pyramid"].options
    assert place(PyramidEncoder(of, low=0, **options)).granularity == "single"
    assert place(PyramidEncoder(of, low=1, **options)).granularity == "multi"
    assert [place(BiEncoder(of, long=long)).granularity for long in ("truncate", "first", "mean")] == [
        "single", "single", "multi"]


def test_both_ways_is_the_mean_of_the_ranker_and_of_its_reverse(tiny_folders, documents, query):
    ranker = CrossEncoder(tiny_folders["bert"], max_length=64, head="random", seed=3)
    both, queries = BothWays(ranker), [query, documents[3]]
    pairs = np.array([(q, d) for d in range(len(documents)) for q in (1, 0)])
    back = ranker.score_pairs(documents, queries, pairs[:, ::-1])
    expected = (ranker.score_pairs(queries, documents, pairs) + back) / 2
    heard = []
    scores = both.score_pairs(queries, documents, pairs, lambda done, total: heard.append((done, total)))
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(both.score_pairs(documents, queries, pairs[:, ::-1]), scores)
    assert heard[-1][0] == heard[-1][1] > 0
    assert both.score_pairs(queries, documents, pairs[:0]).shape == (0,)
    assert [each.index for each in both.rank(query, documents, top=2)] == np.argsort(
        -both.score(query, documents), kind="stable")[:2].tolist()


def test_both_ways_of_a_symmetric_ranker_is_the_ranker_and_rows_of_features_are_refused(tiny_folders, documents, query):
    ranker = BiEncoder(tiny_folders["bert"], max_length=64)
    np.testing.assert_allclose(BothWays(ranker).score(query, documents), ranker.score(query, documents), atol=1e-5)
    with pytest.raises(UsageError, match="rows of features"):
        BothWays(BM25.index(["a"], ["whale"])).score(query, np.zeros((2, 3), np.float32))
    assert not issubclass(BothWays, TextRanker)
