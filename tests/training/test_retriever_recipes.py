"""STAR, ADORE, DUQGen and AR2 on planted corpora: what each paper says of it, by the median of seeds."""

from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lorank
from lorank.cli.app import app
from lorank.data import read_beir, write_beir
from lorank.data.collection import Collection
from lorank.errors import Interrupted, UsageError
from lorank.ranking.losses import loss
from lorank.ranking.scorers import BiEncoder, CrossEncoder
from lorank.ranking.types import Run
from lorank.training import fit, load_ranker
from lorank.training.fitting import fit_run
from lorank.training.hooks.alternation import read_places
from lorank.training.hooks.hook import Hook, Progress
from lorank.training.lists.adversarial import AdversarialLists, chances
from lorank.training.lists.batches import ListBatch
from lorank.training.lists.list_loss import lists_at
from lorank.training.lists.retrieval import dense_run
from lorank.training.plan import build_plan, resolve_recipe
from lorank.training.recipe import RecipeFile, override
from lorank.tuned.ranker import merged
from planted_retrieval import decoyed, shifted, write_encoder, writing_endpoint

pytestmark = pytest.mark.usefixtures("own_cache")
SEEDS = (0, 1, 2)
SAME = {
    "training.lr": 1e-2,
    "training.evaluations": 1,
    "keep": "tuned",
    "judge_test": False,
    "reading.max_length": 24,
}
STATIC = {"lists.negatives_from": "static", "lists.depth": 10, "lists.spare": float("inf")}
AR2 = {"lists.negatives_from": "adversarial", "loss.name": "ar2", "lists.depth": 40}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def catalogued(method: str) -> str:
    """Return the area in which `lorank methods` lists a method."""
    return next(each.area for each in lorank.methods() if each.id == method)


def judged(run: Run, data: Collection, measure: str) -> float:
    found = lorank.evaluate({"run": run}, data.test.qrels, measures=[measure], resamples=10)
    return float(found.systems["run"].mean[measure])


def searched(encoder: str, data: Collection, measure: str, out: Path | None = None, **changes: Any) -> float:
    """Return what the encoder finds in the whole collection, trained into ``out`` where that is given."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    ranker = BiEncoder(encoder, max_length=24, adapted=named.get("reading.adapted", "both"))
    if out is None:
        return judged(dense_run(ranker, data, data.test.queries, 50), data, measure)
    tuned = fit(ranker, data, out=out, recipe=override(RecipeFile(), SAME | named), overwrite=True)
    with merged(tuned.adapter):
        return judged(dense_run(ranker, data, data.test.queries, 50), data, measure)


@pytest.mark.slow
def test_adore_finds_more_than_static_negatives_at_equal_steps(tmp_path: Path) -> None:
    """Only queries are adapted in both. Static negatives are decoys, which are soon far; live ones are near misses."""
    assert catalogued("star-adore") == "retrieve"
    gains, same = [], {"training.steps": 120, "training.batch_size": 4, "reading.adapted": "queries"}
    for seed in SEEDS:
        data, encoder = decoyed(seed, asked=8), write_encoder(tmp_path / f"encoder{seed}", seed)
        static = searched(encoder, data, "R@5", tmp_path / "run", **STATIC, **same)
        live = searched(encoder, data, "R@5", tmp_path / "run", **{"lists.negatives_from": "live"}, **same)
        gains.append(live - static)
        assert live > searched(encoder, data, "R@5") + 0.3
    assert median(gains) > 0.1


@pytest.mark.slow
def test_star_does_not_diverge_at_three_times_the_rate(encoder: str, tmp_path: Path) -> None:
    gains = []
    for seed in SEEDS:
        data = decoyed(seed, asked=24, synonyms=False, repeats=1)
        before = searched(encoder, data, "R@5")
        given = {"training.steps": 60, **STATIC, "training.lr": 3e-2}
        gains.append(searched(encoder, data, "R@5", tmp_path, **given) - before)
    assert min(gains) > 0.2


@pytest.mark.slow
def test_duqgen_beats_zero_shot_on_a_shifted_corpus(encoder: str, tmp_path: Path) -> None:
    assert catalogued("duqgen") == "retrieve"
    gains = []
    for seed in SEEDS:
        data, folder = shifted(seed), tmp_path / str(seed)
        write_beir(data, folder / "data")
        line = ["queries", "--data", folder / "data", "--out", folder / "made", "--ranker", encoder]
        line += ["--shortest", 0, "--count", 60, "--clusters", 12, "--seed", seed]
        with writing_endpoint(seed) as writer:
            done = CliRunner().invoke(app, [*map(str, line), "--writer", writer])
        assert done.exit_code == 0, (done.output, done.exception)
        made = read_beir(folder / "made")
        assert len(made.train) == 60
        before = searched(encoder, made, "nDCG@10")
        given = {"training.steps": 80, "lists.negatives_from": "bottom"}
        gains.append(searched(encoder, made, "nDCG@10", folder / "run", **given) - before)
    assert min(gains) > 0
    assert median(gains) > 0.15


def plan_of(encoder: str, data: Collection, out: Path, **changes: Any) -> Any:
    recipe = override(RecipeFile(), SAME | {"training.steps": 4, "training.batch_size": 4} | changes)
    ranker = BiEncoder(encoder, max_length=24)
    settled, budget = resolve_recipe(ranker, data, recipe)
    return build_plan(ranker, data, settled, budget, out, None, lambda *said: None)


def test_draws_are_of_the_softmax_over_the_best_documents_and_alike_in_a_resumed_run(
    encoder: str, tmp_path: Path
) -> None:
    data = decoyed(0)
    plan = plan_of(encoder, data, tmp_path, **AR2, **{"lists.negatives": 4000})
    assert isinstance(plan.lists, AdversarialLists)
    drawn = lists_at(plan.lists, 0, 4, 12)
    batch = plan.lists.collate(drawn)
    draws = batch.extras["draws"]
    for row, each in enumerate(drawn):
        relevant = {data.position[d] for d in data.train.qrels[each.query_id]}
        scores = plan.ranker.score(data.train.queries[each.query_id], data.documents)
        best = [d for d in np.argsort(-scores, kind="stable").tolist() if d not in relevant][:40]
        chance = dict(zip(best, chances(scores[best]), strict=True))
        own = dict(zip(batch.documents[row].tolist(), draws[row].tolist(), strict=True))
        assert sum(own.values()) == pytest.approx(4000)
        assert sum(own.get(d, 0.0) for d in relevant) == pytest.approx(0)
        gap = [own.get(d, 0.0) / 4000 - share for d, share in chance.items()]
        assert max(map(abs, gap)) < 0.06  # over six standard errors of a share of 4,000 draws
    assert torch.equal(plan.lists.collate(drawn).extras["draws"], draws)
    other = plan_of(encoder, data, tmp_path / "other", **AR2, **{"lists.negatives": 4000, "seed": 5})
    assert not torch.equal(other.lists.collate(drawn).extras["draws"], draws)


def test_the_opponent_reads_what_is_relevant_or_drawn_and_nothing_else(encoder: str, tmp_path: Path) -> None:
    data = decoyed(0)
    plan = plan_of(encoder, data, tmp_path, **AR2)
    batch = plan.lists.collate(lists_at(plan.lists, 0, 4, 12))
    read, scores = read_places(batch), batch.extras["opponent"]
    assert read.sum(1).max() <= 16
    assert not scores[~read].any()
    asked = list(plan.lists.query_at)
    texts = data.dev.queries | data.train.queries
    for row, at in enumerate(batch.queries.tolist()):
        found = plan.against.opponent.ranker.score(
            texts[asked[at]], [str(data.documents[d]) for d in batch.documents[row][read[row]].tolist()]
        )
        assert scores[row][read[row]].numpy() == pytest.approx(found, abs=1e-3)


def divergence(plan: Any) -> tuple[float, float]:
    """Return the mean divergence over all documents from the opponent as it is now, before training and after."""
    data, count = plan.data, len(plan.data.documents)
    queries = list(data.train.queries)[:16]
    labels = torch.zeros(len(queries), count)
    for row, query in enumerate(queries):
        labels[row, [data.position[d] for d in data.train.qrels[query]]] = 1.0
    at = torch.tensor([plan.lists.query_at[query] for query in queries])
    documents, mask = torch.arange(count).expand(len(queries), -1).clone(), torch.ones_like(labels, dtype=torch.bool)
    opponent = plan.against.opponent.scores(ListBatch(at, documents, labels, mask, None))

    def apart() -> float:
        with torch.no_grad():
            scores = plan.ranker.forward(plan.inputs, at, documents, mask)
            return float(loss("ar2", weight=0.0)(scores, labels, mask, opponent=opponent, draws=1 - labels))

    after = apart()
    with plan.ranker.reference():
        return apart(), after


def ranked_by(opponent: Any, data: Collection) -> float:
    """Return nDCG@10 of a cross-encoder over the whole collection."""
    run = {}
    for query, text in data.test.queries.items():
        scores = opponent.score(text, list(map(str, data.documents)))
        run[query] = dict(zip(data.document_ids, scores.tolist(), strict=True))
    return judged(run, data, "nDCG@10")


@pytest.mark.slow
def test_ar2_raises_retriever_and_ranker(encoder: str, tmp_path: Path) -> None:
    assert catalogued("ar2") == "retrieve"
    recall, ranker = [], []
    for seed in SEEDS:
        data, out = decoyed(seed), tmp_path / str(seed)
        before, bi = searched(encoder, data, "R@20"), BiEncoder(encoder, max_length=24)
        recipe = override(RecipeFile(), SAME | AR2 | {"training.steps": 80})
        tuned = fit(bi, data, out=out, recipe=recipe)
        with merged(tuned.adapter):
            recall.append(judged(dense_run(bi, data, data.test.queries, 50), data, "R@20") - before)
        opponent = load_ranker(out / "opponent")
        ranker.append(ranked_by(opponent, data) - ranked_by(CrossEncoder(encoder, max_length=24), data))
    assert median(recall) > 0.2
    assert median(ranker) > 0.15


@pytest.mark.slow
def test_the_regulariser_of_ar2_lets_the_divergence_from_a_ranker_that_stands_still_fall(
    encoder: str, tmp_path: Path
) -> None:
    """As in the paper's turns: it falls with the regulariser, and stays higher in the same turn without."""
    ratio: dict[float, list[float]] = {0.5: [], 1.0: []}
    for seed in SEEDS:
        data, folder = decoyed(seed), tmp_path / str(seed)

        def trained(name: str, data: Collection = data, folder: Path = folder, **changes: Any) -> tuple[float, float]:
            plans: list[Any] = []
            recipe = override(RecipeFile(), SAME | AR2 | changes)
            ranker = BiEncoder(encoder, max_length=24)
            fit_run(ranker, data, recipe, folder / name, prepare=lambda plan: plans.append(plan) or plan)
            return divergence(plans[0])

        trained("both", **{"training.steps": 60})
        still = {"loss.opponent": str(folder / "both" / "opponent"), "loss.opponent_rate": 1e-9, "loss.warmup": 0}
        for weight, found in ratio.items():
            before, after = trained(f"{weight}", **{"training.steps": 100, "loss.weight": weight, **still})
            found.append(after / before)
    assert max(ratio[0.5]) < 0.9
    assert min(np.subtract(ratio[1.0], ratio[0.5])) > 0.05


def test_a_run_against_an_opponent_is_resumed_to_the_bit(encoder: str, tmp_path: Path) -> None:
    data = decoyed(0)
    recipe = override(RecipeFile(), SAME | AR2 | {"training.steps": 6, "training.batch_size": 4, "loss.warmup": 2})

    class Stop(Hook):
        watches = True

        def after_step(self, progress: Progress, optimizer: Any) -> None:
            if progress.step == 4:
                raise Interrupted("here")

    def trained(out: Path, **more: Any) -> torch.Tensor:
        tuned = fit(BiEncoder(encoder, max_length=24), data, out=out, recipe=recipe, **more)
        opponent = load_ranker(out / "opponent")
        return torch.cat([p.detach().flatten() for a in (tuned.adapter, opponent.adapter) for p in a.parameters()])

    recipe = override(recipe, {"training.evaluations": 3})
    whole = trained(tmp_path / "whole")
    with pytest.raises(Interrupted):
        trained(tmp_path / "stopped", hooks=[Stop()])
    assert torch.equal(trained(tmp_path / "stopped", resume=True), whole)


def test_ar2_by_name_and_what_it_refuses(encoder: str, tmp_path: Path) -> None:
    data = decoyed(0)
    write_beir(data, tmp_path / "data")
    line = ["train", "--data", tmp_path / "data", "--base", encoder, "--kind", "bi-encoder", "--loss", "ar2"]
    line += ["--steps", 2, "--batch-size", 4, "--set", "loss.warmup=1", "--out", tmp_path / "run"]
    done = CliRunner().invoke(app, [*map(str, line), "--negatives-from", "adversarial"])
    assert done.exit_code == 0, (done.output, done.exception)
    assert "begins with a new head" in done.stderr
    again = [*map(str, line[:-1]), str(tmp_path / "again"), "--set", f"loss.opponent={tmp_path / 'run' / 'opponent'}"]
    done = CliRunner().invoke(app, again)
    assert done.exit_code == 0, (done.output, done.exception)
    assert "begins with a new head" not in done.stderr
    assert load_ranker(tmp_path / "again" / "opponent").ranker.kind == "cross-encoder"
    for ranker, changes, message in [
        (CrossEncoder(encoder), {"loss.name": "ar2"}, "bi-encoder"),
        (BiEncoder(encoder), {"lists.negatives_from": "adversarial"}, "--loss ar2"),
        (BiEncoder(encoder), {"loss.opponent": encoder}, "loss.opponent"),
        (BiEncoder(encoder), AR2 | {"adapter.name": "full"}, "low-rank adapter"),
    ]:
        with pytest.raises(UsageError, match=message):
            fit(ranker, data, out=tmp_path / "refused", recipe=override(RecipeFile(), SAME | changes))
