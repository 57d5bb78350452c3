"""Where negatives come from: the bi-encoder before training, as it is at each step, or the last candidates."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lorank.data.collection import Collection
from lorank.errors import LorankError, UsageError
from lorank.ranking.dense_index import fingerprint_encoder
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.ranking.scorers.encoded import EncodedDocuments
from lorank.ranking.scorers.held_vectors import similarities_to
from lorank.training import fit, load_ranker
from lorank.training.lists.list_loss import lists_at
from lorank.training.lists.negatives import LiveLists, query_vectors
from lorank.training.lists.retrieval import dense_run
from lorank.training.plan import build_plan, resolve_recipe
from lorank.training.recipe import RecipeFile, override

pytestmark = pytest.mark.usefixtures("own_cache")
STEPS = {"training.steps": 4, "training.batch_size": 4, "training.lr": 5e-3, "training.evaluations": 1}


def recipe(**changes: Any) -> RecipeFile:
    """A short run; names have a dot for two underscores."""
    return override(RecipeFile(), STEPS | {name.replace("__", "."): value for name, value in changes.items()})


def plan_of(ranker: Any, data: Collection, out: Path, **changes: Any) -> Any:
    settled, budget = resolve_recipe(ranker, data, recipe(**changes))
    return build_plan(ranker, data, settled, budget, out, None, lambda *said: None)


@pytest.mark.parametrize("long", ["truncate", "max", "mean", "titled"])
def test_scores_against_held_vectors_are_those_of_the_documents(long: Any) -> None:
    rng = np.random.default_rng(3)
    counts = np.ones(9, np.int64) if long == "truncate" else rng.integers(1, 5, 9)
    titled = (counts > 1) & (rng.random(9) < 0.6) if long == "titled" else np.zeros(9, bool)
    begins = np.cumsum(counts) - counts
    held = EncodedDocuments(rng.normal(size=(counts.sum(), 6)).astype(np.float32), begins, titled, long, 0.4)
    queries = torch.tensor(rng.normal(size=(3, 6)), dtype=torch.float32, requires_grad=True)
    at = np.array([4, 0, 7, 8])
    found = similarities_to(queries, held, at)
    expected = held.similarity_table(queries.detach().numpy())[:, at]
    assert found.detach().numpy() == pytest.approx(expected, abs=1e-4)
    found.sum().backward()
    assert queries.grad is not None
    assert torch.isfinite(queries.grad).all()


@pytest.mark.parametrize("name", ["bert", "roberta"])
@pytest.mark.parametrize("long", ["truncate", "titled"])
def test_live_negatives_are_the_exact_top_of_the_encoder_as_it_is_and_documents_are_encoded_once(
    name: str, long: str, texts: Collection, tiny_folders: dict[str, Path], tmp_path: Path, monkeypatch: Any
) -> None:
    calls: list[int] = []
    encode = BiEncoder.vectors_of
    monkeypatch.setattr(BiEncoder, "vectors_of", lambda self, *a: calls.append(len(a[1])) or encode(self, *a))
    ranker = BiEncoder(tiny_folders[name], max_length=16, long=long)
    plan = plan_of(ranker, texts, tmp_path, lists__negatives_from="live", lists__negatives=5)
    assert isinstance(plan.lists, LiveLists)
    seen = []
    for step in range(4):
        with torch.no_grad():
            for parameter in plan.weights.adapter.parameters():
                parameter += 0.5 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        drawn = lists_at(plan.lists, 0, 4, 3)
        batch = plan.lists.collate(drawn)
        for row, each in enumerate(drawn):
            relevant = {texts.position[d] for d in texts.train.qrels[each.query_id]}
            scores = ranker.score(texts.train.queries[each.query_id], texts.documents)
            order = [d for d in np.argsort(-scores, kind="stable").tolist() if d not in relevant]
            chosen = batch.documents[row][batch.mask[row]].tolist()
            assert set(chosen[: len(relevant)]) == relevant
            found = scores[chosen[len(relevant) :]]
            assert found == pytest.approx(scores[order[:5]], abs=1e-3)
        seen.append(batch.documents.tolist())
    assert seen[0] != seen[-1]
    assert [count for count in calls if count > 1] == [len(texts.documents)] + [len(texts.documents)] * 16
    with torch.enable_grad():
        before = len(calls)
        plan.ranker.forward(plan.inputs, batch.queries, batch.documents, batch.mask).sum().backward()
    assert len(calls) == before


def test_live_training_leaves_the_index_valid_and_the_folder_ranks_as_the_run_did(
    texts: Collection, bert: str, tmp_path: Path
) -> None:
    base = BiEncoder(bert, max_length=24)
    mark, documents = fingerprint_encoder(base), base.encode_documents(texts.documents).vectors
    trained = fit(
        BiEncoder(bert, max_length=24),
        texts,
        out=tmp_path / "run",
        recipe=recipe(lists__negatives_from="live", keep="tuned", loss__name="lambda"),
    )
    again = load_ranker(tmp_path / "run")
    assert again.ranker.adapted == "queries"
    assert again.adapter is not None
    for ranker in (trained.ranker, again.ranker):
        assert fingerprint_encoder(ranker) == mark
        assert ranker.encode_documents(texts.documents).vectors == pytest.approx(documents, abs=1e-4)
    asked = again.ranker.encode(["moon earth"], query=True)
    assert np.abs(asked - base.encode(["moon earth"], query=True)).max() > 1e-3
    assert trained.ranker.encode(["moon earth"], query=True) == pytest.approx(asked, abs=1e-3)
    again.merge()
    scores = again.learned.score("moon earth", texts.documents[:5])
    assert scores == pytest.approx((documents[:5] @ asked[0]) / again.ranker.temperature, abs=0.2)


def test_static_negatives_are_of_the_best_documents_before_training(
    texts: Collection, bert: str, tmp_path: Path
) -> None:
    ranker = BiEncoder(bert, max_length=24)
    expected = dense_run(BiEncoder(bert, max_length=24), texts, texts.train.queries, 6)
    plan = plan_of(ranker, texts, tmp_path, lists__negatives_from="static", lists__depth=6, lists__spare=1.0)
    for query, row in expected.items():
        found, relevant = plan.lists.candidates[query], texts.train.qrels[query]
        assert {d: found[d] for d in row} == pytest.approx(row, abs=1e-4)
        assert relevant.keys() <= found.keys() <= row.keys() | relevant.keys()
        least = min(found[d] for d in relevant)
        drawn = next(each for each in plan.lists.epoch(0) if each.query_id == query)
        hard = [texts.document_ids[d] for d, label in zip(drawn.documents.tolist(), drawn.labels) if label == 0]
        assert all(found[d] <= least + 1e-6 for d in hard if d in found)


def test_easy_negatives_are_the_last_candidates(texts: Collection, bert: str, tmp_path: Path) -> None:
    plan = plan_of(BiEncoder(bert), texts, tmp_path, lists__negatives_from="bottom", lists__depth=12)
    plain = plan_of(BiEncoder(bert), texts, tmp_path / "other", lists__depth=12)
    for query, row in plan.lists.candidates.items():
        whole = plain.lists.candidates[query]
        unjudged = [d for d in sorted(whole, key=lambda d: -whole[d]) if d not in texts.train.qrels[query]]
        assert {d for d in row if d not in texts.train.qrels[query]} == set(unjudged[-4:])


def test_what_cannot_be_is_refused_before_any_work(texts: Collection, bert: str, tmp_path: Path) -> None:
    for ranker, changes, message in [
        (CrossEncoder(bert), {"lists__negatives_from": "live"}, "bi-encoder"),
        (CrossEncoder(bert), {"lists__negatives_from": "static"}, "bi-encoder"),
        (BiEncoder(bert), {"lists__negatives_from": "live", "adapter__name": "full"}, "low-rank adapter"),
        (BiEncoder(bert, adapted="queries"), {"adapter__name": "full"}, "reading.adapted"),
    ]:
        with pytest.raises(UsageError, match=message):
            fit(ranker, texts, out=tmp_path / "refused", recipe=recipe(**changes))
    with pytest.raises(UsageError, match="both"):
        BiEncoder(bert, adapted="documents")  # type: ignore[arg-type]


def test_a_ranker_for_queries_alone_is_neither_exported_nor_served(
    texts: Collection, bert: str, tmp_path: Path
) -> None:
    from lorank.serving.adapters.package import check_alike
    from lorank.tuned.export import export

    trained = fit(
        BiEncoder(bert), texts, out=tmp_path / "run", recipe=recipe(lists__negatives_from="live", keep="tuned")
    )
    with pytest.raises(UsageError, match="queries alone"):
        export(trained, tmp_path / "out", "merged")
    server = BiEncoder(bert)
    with pytest.raises(LorankError, match="queries alone"):
        check_alike("bi-encoder", server.base, trained.ranker.options(), server, tmp_path / "lorank.json")


def test_query_vectors_have_no_dropout(texts: Collection, bert: str, tmp_path: Path) -> None:
    ranker = BiEncoder(bert)
    plan = plan_of(ranker, texts, tmp_path, lists__negatives_from="live", adapter__base_dropout=True)
    plan.weights.set_training_mode()
    first, second = (query_vectors(ranker, plan.inputs, np.arange(3)) for _ in range(2))
    assert first == pytest.approx(second, abs=1e-6)
