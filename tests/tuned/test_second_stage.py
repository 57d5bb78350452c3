"""The second stage of a cascade: how lists are merged, and the folder that holds both rankers."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorank import lowrank
from lorank.errors import DataError, LorankError, UsageError
from lorank.ranking.consensus.fusion import standardise, standardise_run
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.tuned.export import export
from lorank.tuned.mix import Mix, mix_run
from lorank.tuned.open_ranker import open_ranker
from lorank.tuned.ranker import TunedRanker, rerank_run, score_run
from lorank.tuned.second_stage import FOLDER, SecondStage, best_of_run, best_places, correct_list, correct_run
from lorank.tuned.shrinking import ShrinkSettings, shrink_ranker

TEXTS = ["sorting a list", "the moon", "", "words of a list", "moon and earth", "the sun"]
SCORES = st.integers(-1000, 1000).map(lambda n: n / 8)


@st.composite
def lists(draw):
    """The mixed scores of a list, how many of it are read, what was learned of these, and a factor."""
    mixed = np.array(draw(st.lists(SCORES, min_size=1, max_size=12)))
    best = best_places(mixed, draw(st.integers(1, 14)))
    learned = np.array(draw(st.lists(SCORES, min_size=len(best), max_size=len(best))))
    return mixed, best, learned, draw(st.sampled_from([0.125, 1.0, 8.0]))


def others_of(mixed, best):
    return np.setdiff1d(np.arange(len(mixed)), best)


@given(lists())
def test_the_rest_stays_below_the_best_in_its_order_with_its_distances(given_list):
    mixed, best, learned, factor = given_list
    final = correct_list(mixed, best, learned, factor)
    rest = others_of(mixed, best)
    assert np.isfinite(final).all()
    if len(rest):
        single = final.astype(np.float32)
        assert single[rest].max() < single[best].min()
        shift = final[rest] - mixed[rest]
        assert shift == pytest.approx(shift[0])
        assert shift[0] <= 0


@given(lists())
def test_the_best_are_ordered_as_a_tuned_ranker_over_them_would_order_them(given_list):
    mixed, best, learned, factor = given_list
    final = correct_list(mixed, best, learned, factor)[best]
    expected = standardise(mixed[best]) + factor * learned
    spread = mixed[best].std() if mixed[best].min() < mixed[best].max() else 1.0
    assert final - final.mean() == pytest.approx(spread * (expected - expected.mean()), abs=1e-6)
    assert final.mean() == pytest.approx(mixed[best].mean(), abs=1e-6)


def test_a_small_correction_moves_nothing_below():
    mixed = np.array([4.0, 3.0, 1.0, 0.0])
    final = correct_list(mixed, np.array([0, 1]), np.array([0.0, 1.0]), 0.1)
    assert final[2:].tolist() == pytest.approx([1.0, 0.0])
    move = 0.5 * 0.1 * 0.5  # half the distance of the two is their deviation, and so is the centred score
    assert final[:2].tolist() == pytest.approx([4.0 - move, 3.0 + move])


def test_runs_and_pairs_are_merged_alike():
    rng = np.random.default_rng(0)
    mixed = {q: {f"d{i}": float(s) for i, s in enumerate(rng.normal(size=9))} for q in ("a", "b")}
    learned = {q: {d: float(rng.normal()) for d in row} for q, row in best_of_run(mixed, 4).items()}
    final = correct_run(mixed, learned, Mix(1.0, 2.0, spread=0.5))
    for query, row in mixed.items():
        names = list(row)
        best = np.array([names.index(document) for document in learned[query]])
        expected = correct_list(np.array(list(row.values())), best, np.array(list(learned[query].values())), 4.0)
        assert list(final[query].values()) == pytest.approx(expected.tolist())
    assert correct_run({"c": {"x": 1.0}}, {}, Mix(1.0, 1.0)) == {"c": {"x": 1.0}}  # exact: nothing was computed


@pytest.mark.parametrize(("depth", "mix"), [(0, Mix(1.0, 1.0)), (3, Mix(1.0, 0.0)), (3, Mix(0.0, 1.0))])
def test_what_cannot_correct_is_refused(depth, mix):
    with pytest.raises(UsageError, match="it corrects one document or more, with a finite weight above 0"):
        SecondStage(None, mix, depth)


def adapted(ranker, trained=()):
    """A ranker with an adapter that is not as it came."""
    adapter = lowrank.attach(ranker.module, "lora", rank=2, targets="all-linear", trained=trained, seed=0)
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(3))
    return TunedRanker(ranker, adapter)


@pytest.fixture(scope="module")
def cascade(tiny_folders):
    """A bi-encoder whose three best a cross-encoder corrects."""
    base = str(tiny_folders["bert"])
    made = adapted(BiEncoder(base, max_length=40))
    second = adapted(CrossEncoder(base, max_length=60), ["classifier"])
    made.second_stage = SecondStage(second, Mix(1.0, 2.0, spread=0.5), 3, {"sentence": "kept"})
    return made


def test_the_score_of_a_list_is_the_corrected_mix(cascade):
    mixed = cascade.score_mixed(["moon"], TEXTS, np.stack([np.zeros(6, np.int64), np.arange(6)], 1)).astype(float)
    best = best_places(mixed, 3)
    learned = cascade.second_stage.ranker.score("moon", [TEXTS[i] for i in best])
    found = cascade.score("moon", TEXTS)
    assert found.tolist() == pytest.approx(correct_list(mixed, best, learned, 4.0).tolist(), abs=1e-4)
    assert {each.index for each in cascade.rank("moon", TEXTS)[:3]} == set(best.tolist())


def test_pairs_in_any_order_and_twice_have_the_scores_of_their_lists(cascade):
    pairs = np.array([(q, d) for q in range(2) for d in range(6)])
    order = np.random.default_rng(1).permutation(np.concatenate([np.arange(12), [2, 7]]))
    queries = ["moon", "words"]
    once = cascade.score_pairs(queries, TEXTS, pairs)
    again = cascade.score_pairs(queries, TEXTS, pairs[order])
    assert again.tolist() == pytest.approx(once[order].tolist(), abs=1e-4)
    alone = [cascade.score(query, TEXTS) for query in queries]
    assert once.tolist() == pytest.approx(np.concatenate(alone).tolist(), abs=1e-4)
    assert cascade.score_pairs(queries, TEXTS, pairs[:0]).shape == (0,)


def test_a_run_is_reranked_and_what_is_not_read_keeps_its_place(cascade, texts):
    queries = dict(list(texts.test.queries.items())[:3])
    run = {query: {f"d{i}": float(-i) for i in range(8)} for query in queries}
    found = rerank_run(cascade, texts, queries, run)
    own = score_run(cascade.learned, texts, queries, run)
    mixed = mix_run(cascade.mix, standardise_run(run), own)
    for query, row in found.items():
        ranked = sorted(row, key=lambda d: (row[d], d), reverse=True)
        before = sorted(mixed[query], key=lambda d: (mixed[query][d], d), reverse=True)
        assert set(ranked[:3]) == set(before[:3])
        assert ranked[3:] == before[3:]


def test_the_folder_opens_as_any_other_and_scores_the_same(cascade, tmp_path):
    cascade.save(tmp_path / "run" / "model")
    expected = cascade.score("moon", TEXTS)
    for name in (tmp_path / "run", tmp_path / "run" / "model"):
        again = open_ranker(str(name))
        assert again.second_stage.depth == 3
        assert again.second_stage.said == {"sentence": "kept"}
        assert again.score("moon", TEXTS).tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    again.save(tmp_path / "twice")
    assert TunedRanker.load(tmp_path / "twice").score("moon", TEXTS).tolist() == pytest.approx(
        expected.tolist(), abs=1e-4
    )


@pytest.mark.parametrize("name", ["lorank.json", "adapter/adapter_config.json", None])
def test_a_folder_whose_second_stage_is_not_of_its_save_is_refused(cascade, tmp_path, name):
    cascade.save(tmp_path / "run")
    second = tmp_path / "run" / FOLDER
    if name is None:
        for path in sorted(second.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    else:
        (second / name).write_text(json.dumps(json.loads((second / name).read_text()) | {"more": 1}))
    with pytest.raises(DataError, match="the file is missing|where .* were saved|another SHA-256"):
        TunedRanker.load(tmp_path / "run")


def test_what_is_done_with_one_ranker_is_refused_by_name(cascade, tmp_path):
    with pytest.raises(UsageError, match="cannot be exported.*bi-encoder/ and cross-encoder/"):
        export(cascade, tmp_path / "out", "peft")
    with pytest.raises(UsageError, match="cannot be shrunk"):
        shrink_ranker(cascade, ShrinkSettings("svd", ratio=0.5))
    with pytest.raises(LorankError, match="unknown|no such|known"):
        cascade.run_on("no-such-path")
