"""What trials share is what each of them would have made for itself."""

import pytest

from lorank.compare.experiment_file import read_experiment
from lorank.compare.shared_work import SharedWork
from lorank.compare.trial import trials_of
from lorank.ranking.scorers import BiEncoder
from lorank.training.lists.candidates import find_candidates
from lorank.training.plan import free_split
from lorank.tuned.ranker import score_run


def trials(data, bert, **more):
    made = read_experiment(
        {"data": str(data), "base": bert, "kind": "bi-encoder", "adapter": {"name": ["lora"]}} | more
    )
    return trials_of(made, made.rows[0], 0)


@pytest.mark.parametrize("source", ["auto", "bm25", "none"])
@pytest.mark.parametrize("free", ["none", "titles"])
def test_the_candidates_are_those_of_a_run_of_its_own(tmp_path, write_beir, source, free):
    data = write_beir(tmp_path / "d", {"train": 8, "dev": 6, "test": 6}, titled=True)
    (trial,) = trials(data, "none", first_stage={"source": source}, lists={"free_queries": free, "depth": 5})
    shared = SharedWork(tmp_path / "out")
    part, found = shared.part(trial), shared.candidates(trial, None)
    from dataclasses import replace

    recipe = replace(trial.recipe, judge_test=True)
    own = find_candidates(part, recipe, None, free_split(part, recipe), lambda what, done, total: None)
    assert (found.train, found.dev, found.test, found.source) == (own.train, own.dev, own.test, own.source)
    assert found.first_stage == own.first_stage or found.first_stage.source == own.first_stage.source


def test_each_fold_has_its_part_of_one_run_and_every_query_is_tested_once(judged, bert, tmp_path):
    shared = SharedWork(tmp_path / "out")
    folds = trials(judged, bert, folds=3, lists={"depth": 5})
    tested = [query for trial in folds for query in shared.part(trial).test.queries]
    assert sorted(tested) == sorted(f"test{i}" for i in range(24))
    runs = list((tmp_path / "out" / "shared").glob("*.json"))
    for trial in folds:
        found = shared.candidates(trial, None)
        assert found.test.keys() == shared.part(trial).test.queries.keys()
        assert not found.train.keys() & found.test.keys()
    assert len(list((tmp_path / "out" / "shared").glob("*.json"))) == len(runs) + 1


def test_the_untuned_scores_are_made_once_and_are_the_bases(judged, bert, tmp_path):
    shared, ranker = SharedWork(tmp_path / "out"), BiEncoder(bert)
    first, second, _ = trials(judged, bert, folds=3, lists={"depth": 5})
    scores = shared.untuned(first, ranker, shared.candidates(first, ranker))
    assert shared.untuned(second, None, shared.candidates(second, ranker)) is scores
    again = SharedWork(tmp_path / "out").untuned(first, None, shared.candidates(first, ranker))
    assert again == scores  # exact: read from the file, not computed
    part, found = shared.part(first), shared.candidates(first, ranker)
    own = score_run(ranker, part, part.test.queries, found.test)
    for query, row in own.items():
        assert scores[query] == pytest.approx(row, abs=1e-5)
