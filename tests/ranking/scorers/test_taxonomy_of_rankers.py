"""deep-look-nrm shows: every text scorer and every loss is tagged by the axes, and every cell has a model."""

import tomllib
from pathlib import Path

import numpy as np
import pytest

from lorank.compare.experiment_file import read_experiment
from lorank.compare.running import run_experiment
from lorank.compare.selection import set_keys
from lorank.data.beir import write_beir
from lorank.data.collection import Collection, Split
from lorank.errors import UsageError
from lorank.ranking.losses import LOSSES
from lorank.ranking.losses.core.learning import LEARNING, learning, learnings
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


@pytest.mark.parametrize(
    ("name", "cell"),
    [
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
    ],
)
def test_the_places_of_well_known_architectures(places, name, cell):
    assert places[name].cell == cell


def test_deep_look_nrm_every_loss_is_tagged_by_what_its_gradient_does():
    tags = learnings()
    assert tags.keys() == LOSSES.keys()
    assert set(tags.values()) == set(LEARNING) == set(AXES["learning"])
    textbook = {
        "bce": "pointwise",
        "mse": "pointwise",
        "ordinal": "pointwise",
        "ranknet": "pairwise",
        "hinge": "pairwise",
        "margin-mse": "pairwise",
        "dpo": "pairwise",
        "softmax": "listwise",
        "listmle": "listwise",
        "approxndcg": "listwise",
        "lambda": "listwise",
        "kl": "listwise",
    }
    assert {name: tags[name] for name in textbook} == textbook


def test_what_is_known_of_one_gradient_is_what_is_measured(monkeypatch):
    def pairs_of_neighbours(scores, labels, mask, weights=None):
        return (scores[:, 1:] * scores[:, :-1]).sum() + (labels * scores).sum()

    made = {
        "alone": lambda scores, labels, mask: (scores**3 * labels).sum(),
        "pairs": pairs_of_neighbours,
        "three": lambda scores, labels, mask: scores[:, :3].prod(1).sum(),
        "labels": lambda scores, labels, mask: (scores * labels / labels.sum()).sum(),
    }
    for name, function in made.items():
        monkeypatch.setitem(LOSSES, name, function)
    monkeypatch.setattr("lorank.ranking.losses.core.learning.loss", made.__getitem__)
    assert {name: learning(name) for name in made} == {
        "alone": "pointwise",
        "pairs": "pairwise",
        "three": "listwise",
        "labels": "pairwise",
    }


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
        place(CrossEncoder(tiny_folders["bert"]))  # a new head scores 0 everywhere
    with pytest.raises(UsageError, match="three different texts"):
        is_symmetric(BiEncoder(tiny_folders["bert"]), PROBES[:2])


def test_granularity_goes_by_passages_and_by_layers(tiny_folders):
    of = tiny_folders["bert"]
    options = SCORERS["pyramid"].options
    assert place(PyramidEncoder(of, low=0, **options)).granularity == "single"
    assert place(PyramidEncoder(of, low=1, **options)).granularity == "multi"
    assert [place(BiEncoder(of, long=long)).granularity for long in ("truncate", "first", "mean")] == [
        "single",
        "single",
        "multi",
    ]


def test_both_ways_is_the_mean_of_the_ranker_and_of_its_reverse(tiny_folders, documents, query):
    ranker = CrossEncoder(tiny_folders["bert"], max_length=64, head="random", seed=3)
    both, queries = BothWays(ranker), [query, documents[3]]
    pairs = np.array([(q, d) for d in range(len(documents)) for q in (1, 0)])
    back = ranker.score_pairs(documents, queries, pairs[:, ::-1])
    expected = (ranker.score_pairs(queries, documents, pairs) + back) / 2
    heard = []
    scores = both.score_pairs(queries, documents, pairs, lambda done, total: heard.append((done, total)))
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=5e-6)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(both.score_pairs(documents, queries, pairs[:, ::-1]), scores)
    assert heard[-1][0] == heard[-1][1] > 0
    assert both.score_pairs(queries, documents, pairs[:0]).shape == (0,)
    assert [each.index for each in both.rank(query, documents, top=2)] == np.argsort(
        -both.score(query, documents), kind="stable"
    )[:2].tolist()


def test_both_ways_of_a_symmetric_ranker_is_the_ranker_and_rows_of_features_are_refused(tiny_folders, documents, query):
    ranker = BiEncoder(tiny_folders["bert"], max_length=64)
    np.testing.assert_allclose(BothWays(ranker).score(query, documents), ranker.score(query, documents), atol=1e-5)
    with pytest.raises(UsageError, match="rows of features"):
        BothWays(BM25.index(["a"], ["whale"])).score(query, np.zeros((2, 3), np.float32))
    assert not issubclass(BothWays, TextRanker)


@pytest.fixture(scope="module")
def table(tiny_folders):
    """benchmarks/rankers.toml on a tiny base."""
    path = Path(__file__).resolve().parents[3] / "benchmarks" / "rankers.toml"
    text = path.read_text(encoding="utf-8").replace('"minilm"', f'"{tiny_folders["bert"]}"')
    return tomllib.loads(text)


def test_deep_look_nrm_the_comparison_has_a_model_of_every_cell_and_a_loss_of_every_learning(table):
    rows = [row for row in read_experiment(table).rows if row.external is None]
    assert {learning(row.recipe.loss.name) for row in rows} == set(LEARNING)
    models = {row.name.rpartition(", ")[0]: row for row in rows if row.recipe.loss.name == "softmax"}
    assert len(rows) == len(models) * len(LEARNING)
    cells = []
    for row in models.values():
        kind = row.recipe.kind or "bi-encoder"
        head = {} if kind == "bi-encoder" else {"head": "random"}  # a new head scores 0 until it is trained
        ranker = RANKERS[kind](row.recipe.base, **row.recipe.reading.as_options(), **head)
        cells.append(place(BothWays(ranker) if row.both_ways else ranker).cell)
    assert cells == list(CELLS)


def test_deep_look_nrm_the_comparison_runs(table, tmp_path):
    write_beir(collection(), tmp_path / "made")
    quick = {"training.steps": 1, "training.batch_size": 2, "lists.depth": 4, "loss.name": ["softmax"]}
    names = ["cross-encoder, both ways, softmax", "pyramid, softmax", "BM25"]
    settings = quick | {"data": str(tmp_path / "made"), "baseline": "BM25"}
    found = run_experiment(set_keys(table, settings), tmp_path / "out", rows=names)
    assert found.whole, found.notes
    values = {row.name: np.mean(list(row.trials[0].test["nDCG@10"].values())) for row in found.result.rows}
    assert values.keys() == set(names)
    assert values["BM25"] == pytest.approx(np.mean([1.0, 1.0, 1 / np.log2(3), 1 / np.log2(3)]))
    assert all(1 / np.log2(3) - 1e-9 <= value <= 1 for value in values.values())


def collection():
    """Two documents hold each query's word, one often and one once; queries a and c want the first, the others not."""
    words = {"a": "moon", "b": "list", "c": "query", "d": "models"}
    often = {query: f"{word} {word} {word}\nabout a {word}" for query, word in words.items()}
    once = {query: f"a title\nof a text about one {word}" for query, word in words.items()}
    texts = {f"{query}-{name}": text[query] for name, text in (("often", often), ("once", once)) for query in words}
    fillers = {f"filler-{i}": f"filler\nnumber {'x ' * i}" for i in range(6)}
    judged = {query: {f"{query}-{'often' if query in 'ac' else 'once'}": 1} for query in words}
    splits = {name: Split(name, dict(words), judged) for name in ("train", "dev", "test")}
    documents = texts | fillers
    return Collection("made", list(documents), list(documents.values()), splits)
