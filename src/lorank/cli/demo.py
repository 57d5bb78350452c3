"""`lorank demo`: the whole story on an embedded collection, from BM25 to a report."""

import json
import shlex
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorank.cli.progress import console, progress_bars
from lorank.errors import unknown_name
from lorank.progress import StageCallback

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.ranking.metrics.evaluation import Evaluation
    from lorank.ranking.scorers import BiEncoder
    from lorank.ranking.types import Run
    from lorank.training.lists.candidates import Candidates
    from lorank.training.settings import Recipe

DEPTH = 100
TOKENS = 128
TRY = {
    "lohelp": (
        "a formula that adds numbers only if a condition holds",
        "The SUMIF function sums the cells that meet a criterion",
    ),
    "pydocs": ("order a mapping", "Sort a dictionary by its values"),
}
"""For each collection a query and a document that the tuned ranker is tried on."""


def demo(
    out: Annotated[Path, typer.Option(help="Run folder; an earlier demo in it is replaced.")] = Path("runs/demo"),
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps; fewer is faster and weaker.")] = None,
    data: Annotated[
        str, typer.Option(help="The collection: lohelp (LibreOffice's help) or pydocs (Python's).")
    ] = "lohelp",
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
) -> None:
    """Tell the whole story on LibreOffice's help: BM25, MiniLM as it comes, their fusion, a tuned adapter.

    Takes at most ten minutes on two cores. It ends with a table, tests over groups of queries, and an HTML report.

    Examples: `lorank demo --out runs/demo`; on Python's documentation `lorank demo --data pydocs --out runs/pydocs`
    """
    import lorank
    from lorank.data.files import write_text
    from lorank.ranking.metrics.table import to_markdown
    from lorank.reporting import write_report
    from lorank.reporting.examples import write_examples

    if data not in TRY:
        raise unknown_name("collection of the demo", data, list(TRY))
    started = time.monotonic()
    collection = lorank.load(data)
    shutil.rmtree(out, ignore_errors=True)
    with progress_bars() as on_progress:
        ladder = _ladder(collection, demo_recipe(steps, seed), out, on_progress)
    judged = _judge(ladder, collection, seed)
    write_text(out / "results.json", json.dumps(judged.to_dict(), indent=1) + "\n")
    names = list(ladder)
    before, after = ((name, ladder[name].run) for name in (names[2], names[-1]))
    write_examples(out, collection, collection.test, before, after)
    page = write_report(out)
    print(to_markdown(judged))
    console.print(f"{(time.monotonic() - started) / 60:.1f} minutes. The report: {page}")
    query, document = TRY[data]
    console.print(
        f"Try it: echo '\"{document}\"' | lorank rank --ranker {out} --query '{query}' --documents -", soft_wrap=True
    )


def demo_recipe(steps: int | None, seed: int) -> "Recipe":
    """Return the demo's recipe: LoRA on a bi-encoder, in-batch negatives, titles as free queries."""
    from lorank.training import settings

    return settings.Recipe(
        adapter=settings.AdapterSettings("lora", rank=16, alpha=32.0),
        loss=settings.LossSettings("softmax"),
        lists=settings.ListSettings(negatives=1, free_queries="titles", depth=DEPTH),
        training=settings.OptimizerSettings(steps=steps or 100, batch_size=32, lr=5e-4),
        first_stage=settings.FirstStageSettings("bm25"),
        seed=seed,
        judge_test=False,
    )


@dataclass
class _Rung:
    """One step of the quality ladder: its test run, what it is, what it cost."""

    run: "Run"
    description: str
    cost: dict[str, float] = field(default_factory=dict)
    role: str = ""


def _ladder(collection: "Collection", recipe: "Recipe", out: Path, on_progress: StageCallback) -> dict[str, _Rung]:
    from lorank.ranking.consensus.fusion import standardise_run
    from lorank.ranking.scorers import BiEncoder
    from lorank.training.fitting import fit
    from lorank.training.record import folder_bytes
    from lorank.tuned.mix import mix_run
    from lorank.tuned.ranker import score_run

    ranker = BiEncoder("minilm", max_length=TOKENS, dtype="auto")
    test = collection.test.queries
    rungs, candidates, bm25 = _first_rungs(collection, ranker, on_progress)
    clock = time.monotonic()
    tuned = fit(
        ranker,
        collection,
        out=out,
        recipe=recipe,
        candidates=candidates,
        command="lorank " + shlex.join(sys.argv[1:]),
        on_progress=on_progress,
    )
    train_seconds, clock = time.monotonic() - clock, time.monotonic()
    learned = score_run(tuned.learned, collection, test, bm25, partial(on_progress, "score the test candidates"))
    mixed = mix_run(tuned.mix, standardise_run(bm25), learned)
    assert tuned.adapter is not None
    cost = {
        "train_seconds": train_seconds,
        "score_seconds": time.monotonic() - clock,
        "trained_parameters": float(tuned.adapter.num_parameters()),
        "bytes": float(folder_bytes(out / "model" / "adapter")),
    }
    rungs["MiniLM + LoRA"] = _Rung(learned, "the adapted MiniLM alone, on BM25's 100 best", cost)
    rungs["BM25 + LoRA"] = _Rung(
        mixed,
        f"the adapted MiniLM added to BM25, with weight {tuned.mix.describe_weight()} chosen on dev",
        cost | {"score_seconds": cost["score_seconds"] + rungs["BM25"].cost["score_seconds"]},
        "tuned",
    )
    return rungs


def _first_rungs(
    collection: "Collection",
    ranker: "BiEncoder",
    on_progress: StageCallback,
) -> "tuple[dict[str, _Rung], Candidates, Run]":
    from lorank.data.free_queries import free_queries, targets
    from lorank.training.lists.candidates import Candidates, fit_scales_on_dev, fusion_candidates
    from lorank.training.lists.retrieval import bm25_index, dense_run
    from lorank.tuned.first_stage import Component, FirstStage

    free = free_queries(collection, "titles", exclude=targets(collection)).queries
    queries = {q: text for split in collection.splits.values() for q, text in split.queries.items()} | free
    clock = time.monotonic()
    on_progress("BM25", 0, 1)
    index = bm25_index(collection)
    bm25 = index.search(queries, DEPTH)
    on_progress("BM25", 1, 1)
    bm25_seconds, clock = time.monotonic() - clock, time.monotonic()
    dense = dense_run(ranker, collection, queries, DEPTH, partial(on_progress, "encode the documents"))
    dense_seconds = time.monotonic() - clock
    weights, fusion = fusion_candidates(collection, ranker, bm25, dense, index.statistics, DEPTH)[1:]
    test, dev = collection.test.queries, _only(bm25, collection.dev.queries)
    first_stage = fit_scales_on_dev(FirstStage("bm25", (Component("bm25"),), index.statistics), collection, dev)
    found = Candidates(_only(bm25, collection.train.queries | free), dev, first_stage, "BM25")
    return (
        {
            "BM25": _Rung(
                _only(bm25, test), "stop words, stemming; k1 = 1.2, b = 0.75", {"score_seconds": bm25_seconds}
            ),
            "MiniLM": _Rung(
                _only(dense, test),
                "all-MiniLM-L6-v2 as it comes, cosine over the whole collection",
                {"score_seconds": dense_seconds},
            ),
            "BM25 + MiniLM": _Rung(
                _only(fusion, test),
                f"weights chosen on dev: {weights[0]:.2f} and {weights[1]:.2f}",
                {"score_seconds": bm25_seconds + dense_seconds},
                "untuned",
            ),
        },
        found,
        _only(bm25, test),
    )


def _judge(ladder: dict[str, _Rung], collection: "Collection", seed: int) -> "Evaluation":
    import lorank

    judged: Evaluation = lorank.evaluate(
        {name: rung.run for name, rung in ladder.items()},
        collection.test.qrels,
        seed=seed,
        collection=collection.name,
        split="test",
    )
    return replace(
        judged,
        systems={
            name: replace(system, description=ladder[name].description, cost=ladder[name].cost, role=ladder[name].role)
            for name, system in judged.systems.items()
        },
    )


def _only(run: "Run", queries: dict[str, str]) -> "Run":
    return {q: run[q] for q in queries}
