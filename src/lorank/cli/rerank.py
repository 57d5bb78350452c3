"""`lorank rerank`: reorder a run with a ranker, or by asking a judge."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import Language, Negative, key_value
from lorank.cli.progress import console, progress_bars, stage
from lorank.cli.ranker_options import NAMES, Kind, Label, Long, MaxLength, Set, reading_of
from lorank.errors import UsageError
from lorank.tuned.naming import recognise

if TYPE_CHECKING:
    from lorank.data.collection import Collection, Split
    from lorank.ranking.judges.prompts import Asking
    from lorank.ranking.strategies.runs import Manner
    from lorank.ranking.types import Run
    from lorank.tuned.ranker import TunedRanker
    from lorank.tuned.reading import ReadingSettings

SELECTS = "dynamicrag"
"""The strategy that says how many documents are worth keeping."""


def rerank(
    data: Annotated[str, typer.Option(help="The collection whose texts are shown to the ranker or the judge.")],
    out: Annotated[Path, typer.Option(help="TREC run to write; .gz compresses it.")],
    run: Annotated[
        Path | None,
        typer.Option(
            help="The run to reorder. [default: the lists that came with the data, as "
            "LETOR files and training rows bring them]"
        ),
    ] = None,
    ranker: Annotated[
        str | None, typer.Option(autocompletion=completion.rankers, help=f"What scores: {NAMES}.")
    ] = None,
    kind: Kind = None,
    label: Label = None,
    max_length: MaxLength = None,
    long: Long = None,
    settings: Set = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Who answers a strategy's questions: ranker (the one in --ranker), openai:URL or openai:URL#MODEL, "
            "causal:BASE, t5:BASE (an encoder-decoder such as FLAN-T5), fid:BASE (ListT5's Fusion-in-Decoder), "
            "monot5:BASE, duot5:BASE, or "
            "oracle (the judgments; oracle:noise=0.5,malformed=0.1 errs)."
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("strategy"),
            help="How to ask: pointwise, prp, setwise, sliding, full, jointrank, ...; or what of the model to look "
            "into: e2rank (an embedding model), promptreps (a language model), anncur (a ranker); a wrong name lists "
            "all. [default: jointrank with a judge, listt5 with fid; a ranker alone scores every document]",
        ),
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="An option of the strategy, key=value; repeat it.")] = None,
    top: Annotated[int, typer.Option(min=1, help="How many first places matter to a strategy.")] = 10,
    budget: Annotated[
        str | None,
        typer.Option(
            help="The most that a query may cost: calls=200, tokens=50000, or "
            "both; then the best order so far is taken."
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(
            help="File of answers, read and added to; the same command goes on where it was stopped. "
            "[default with openai and causal: the name of --out and .answers.jsonl]"
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Questions that are put together, at most.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder of prompts in place of the packaged ones.")] = None,
    words: Annotated[int | None, typer.Option(min=1, help="Words of a document that a prompt shows.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The most tokens of a written reply.")] = None,
    thinking: Annotated[
        bool | None,
        typer.Option(
            "--thinking/--no-thinking",
            help="Ask a language model for a thought before its answer, within --max-tokens. [default: with rank-k]",
        ),
    ] = None,
    only_selected: Annotated[
        bool,
        typer.Option("--only-selected", help="Write only the documents that the strategy selects, as dynamicrag does."),
    ] = False,
    accept_malformed: Annotated[
        bool,
        typer.Option(
            "--accept-malformed", help="Write the run even where every answer of the judge was malformed or repaired."
        ),
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds that an endpoint may take to answer.")] = 120.0,
    path: Annotated[
        str | None,
        typer.Option(
            help="How a cross-encoder's scores are computed: torch-int8, openvino-bfloat16, ...; "
            "a wrong name lists all; auto tries those that are installed and takes the fastest that keeps the order."
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Who works through the queries: local, or ray for --ranker on many machines.")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="With ray: processes that hold the ranker.")] = 2,
    address: Annotated[
        str | None, typer.Option(help="With ray: the cluster's address. [default: this machine]")
    ] = None,
    split: Annotated[str, typer.Option(help="train, dev, test, or all.")] = "test",
    negative: Negative = "error",
    language: Language = "auto",
    skip_bad: SkipBad = False,
    depth: Annotated[
        int,
        typer.Option(
            min=1, help="How many of a query's documents are reordered; the rest of --run stays below, in order."
        ),
    ] = 100,
    seed: Annotated[int, typer.Option(help="For strategies that draw lots, and an oracle that errs.")] = 0,
) -> None:
    """Write the documents of a run in a better order: scored by a ranker, or sorted by a judge's answers.

    What asking has cost goes to stderr. An endpoint's key is read from OPENAI_API_KEY.

    Examples:

        lorank rerank --ranker runs/first --data pydocs --run bm25.run --out tuned.run

        lorank rerank --ranker minilm --long max --data pydocs --run bm25.run --out untuned.run

        lorank rerank --judge openai:http://localhost:8000/v1 --strategy setwise --budget calls=200
        --data pydocs --run bm25.run --out llm.run

        lorank rerank --judge oracle:noise=0.5 --strategy prp --option method=sliding
        --data pydocs --run bm25.run --out oracle.run

        lorank rerank --ranker runs/e2rank --strategy e2rank --option feedback=5
        --data pydocs --run bm25.run --out feedback.run

        lorank rerank --judge causal:smollm2 --strategy dynamicrag --only-selected --depth 10
        --data pydocs --run bm25.run --out context.run

        lorank rerank --ranker runs/first --engine ray --workers 8 --data big/ --run bm25.run --out tuned.run
    """
    import lorank
    from lorank import index

    if ranker is None and judge in (None, "ranker"):
        raise UsageError(
            "nothing to rerank with: give --ranker, or --judge openai:URL, causal:BASE, t5:BASE, fid:BASE, "
            "monot5:BASE, duot5:BASE or oracle"
        )
    if ranker is not None and recognise(ranker, "--ranker").kind == "judge" and judge in (None, "ranker"):
        ranker, judge = None, ranker
    reading = reading_of(settings, max_length, long)
    if ranker is None and (reading.as_options() or kind or label):
        raise UsageError(
            "--kind, --label, --max-length, --long and --set belong to --ranker, and a judge is asked here"
        )
    if strategy is not None:
        index.check("strategy", strategy, "--strategy")
    if judge is not None:
        index.check("judge", judge.partition(":")[0], "--judge", also=("ranker", "oracle"))
    if strategy == "e2rank" and ranker is not None and ranker in index.names("base"):
        console.print(
            f"warning: {ranker} was not trained to read e2rank's prompts and ranks worse by them than by the query "
            "alone; train one first: lorank train --loss e2rank",
            soft_wrap=True,
        )
    if path is not None:
        index.check("path", path, "--path", also=("auto",))
    index.check("engine", engine, "--engine", also=("ray",))
    index.check_data(data, "--data")
    from lorank.cli.judged import (
        USUAL_STRATEGY,
        candidate_lists,
        judge_run,
        open_cache,
        resolve_judge,
        settle_thinking,
    )
    from lorank.data import from_run, read_run, write_run
    from lorank.data.collection import Split
    from lorank.ranking.strategies.runs import with_tail
    from lorank.tuned.ranker import rerank_run

    manner = (
        None
        if judge is None and strategy is None
        else _manner(
            strategy or USUAL_STRATEGY.get((judge or "").partition(":")[0], "jointrank"),
            option,
            top,
            budget,
            batch_size,
            seed,
        )
    )
    if manner is None and (option or budget or cache or only_selected):
        raise UsageError(
            "--option, --budget, --cache and --only-selected belong to a strategy; add --strategy, or leave them out"
        )
    thinks = settle_thinking(thinking, judge, strategy)
    _check_prompting(judge, prompts, max_tokens)
    if manner is not None:
        _check_manner(manner, cache, only_selected)
    with stage(f"read {data}"), skipping(skip_bad, out) as on_bad:
        collection = lorank.load(data, negative=negative, on_bad=on_bad, language=language)
        chosen = [collection.split(name) for name in (collection.splits if split == "all" else [split])]
        queries = {q: text for part in chosen for q, text in part.queries.items()}
        whole = Split(split, queries, {})
        given = _lists_of(collection, chosen) if run is None else read_run(run, on_bad=on_bad)
        if run is not None:
            given = from_run(given, collection, whole, path=run, on_bad=on_bad)
    candidates = from_run(given, collection, whole, depth if run else None, path=run)
    if engine == "ray":
        if manner is not None or path is not None or reading.as_options() or kind or label:
            raise UsageError(
                "--engine ray scores with --ranker alone; leave out --strategy, --judge, --path, --kind, --label, "
                "--long, --max-length and --set"
            )
        reranked = _score_on_ray(str(ranker), collection, queries, candidates, out, workers, address)
    elif manner is None:
        model = _open(str(ranker), kind, label, reading, collection, path)
        with progress_bars() as on_progress:
            scoring = partial(on_progress, "score documents")
            reranked = rerank_run(model, collection, queries, candidates, scoring)
    else:
        asking = _asking(prompts, words, max_tokens, timeout, thinks)
        manner = _with_other_queries(manner, collection, queries)
        qrels = {query: row for part in chosen for query, row in part.qrels.items()}
        opened = None if judge not in (None, "ranker") else _open(str(ranker), kind, label, reading, collection, path)
        judge_of = resolve_judge(judge or "ranker", opened, asking, qrels, seed)
        lists = candidate_lists(collection, queries, candidates)
        kept_answers = open_cache(cache, judge, out, manner)
        reranked = judge_run(lists, judge_of, manner, kept_answers, engine, accept_malformed, only_selected)
    kept = sum(map(len, reranked.values()))
    reranked = reranked if only_selected else with_tail(reranked, given)
    write_run(reranked, out, "lorank" if manner is None else f"lorank-{manner.strategy}")
    below = sum(map(len, reranked.values())) - kept
    said = f", {below} below --depth {depth} in the order in which they came" if below else ""
    console.print(f"{len(reranked)} queries, {kept} documents reranked{said}", soft_wrap=True)
    print(out)


def _lists_of(collection: "Collection", splits: "list[Split]") -> "Run":
    if any(split.candidates is None for split in splits):
        raise UsageError(
            f"collection {collection.name!r} brings no lists of its own to reorder; give --run, which "
            "`lorank retrieve` writes"
        )
    return {query: row for split in splits for query, row in (split.candidates or {}).items()}


def _score_on_ray(
    folder: str,
    collection: "Collection",
    queries: dict[str, str],
    candidates: "Run",
    out: Path,
    workers: int,
    address: str | None,
) -> "Run":
    from lorank.tuned.ray_rerank import rerank_on_ray, shards_of

    journal = out.with_name(f"{out.name}.shards.jsonl")
    console.print(f"shards that are done are kept in {journal}", soft_wrap=True, markup=False)
    with progress_bars() as on_progress:
        return rerank_on_ray(
            folder,
            shards_of(collection, queries, candidates),
            journal,
            workers=workers,
            address=address,
            on_progress=partial(on_progress, "score shards"),
        )


def _open(
    name: str,
    kind: str | None,
    label: str | None,
    reading: "ReadingSettings",
    collection: "Collection",
    path: str | None,
) -> "TunedRanker":
    """Return the ranker of ``--ranker``, on the scoring path of ``--path``."""
    from lorank.cli.paths import run_on

    with stage(f"open {name}"):
        from lorank.tuned.open_ranker import open_ranker

        model = open_ranker(name, kind=kind, label=label, reading=reading, collection=collection, flag="--ranker")
    if path is not None:
        run_on(model, path)
    return model


def _manner(
    strategy: str, option: list[str] | None, top: int, budget: str | None, batch_size: int | None, seed: int
) -> "Manner":
    from lorank.ranking.judges import Budget
    from lorank.ranking.strategies.registry import check_strategy
    from lorank.ranking.strategies.runs import Manner

    options = dict(key_value(text, "--option") for text in option or [])
    check_strategy(strategy, options)
    return Manner(strategy, top, Budget.parse(budget) if budget else None, batch_size, seed, options)


def _check_prompting(judge: str | None, prompts: Path | None, max_tokens: int | None) -> None:
    """Raise UsageError for what a judge that reads by the prompt that it was trained on does not take."""
    from lorank.cli.judged import BY_OWN_PROMPT

    scheme = (judge or "").partition(":")[0]
    if scheme not in BY_OWN_PROMPT:
        return
    for option, given in (("--prompts", prompts), ("--max-tokens", max_tokens)):
        if given is not None:
            raise UsageError(
                f"{option}: {scheme} reads by the prompt that it was trained on, and its answer has one form; "
                "--words cuts documents"
            )


def _check_manner(manner: "Manner", cache: Path | None, only_selected: bool) -> None:
    """Raise UsageError for options that the strategy has no use for."""
    from lorank.ranking.strategies import ALIASES
    from lorank.ranking.strategies.by_model import is_by_model, refuse_questions

    if is_by_model(manner.strategy):
        refuse_questions(manner.strategy, None, None, cache)
    if only_selected and ALIASES.get(manner.strategy, manner.strategy) != SELECTS:
        raise UsageError(f"--only-selected: strategy {manner.strategy!r} selects no documents; {SELECTS} does")


def _with_other_queries(manner: "Manner", collection: "Collection", queries: dict[str, str]) -> "Manner":
    """Return the manner with the queries of the other splits, where a strategy takes queries and none are given."""
    from lorank.ranking.strategies import strategy_options

    if "queries" not in strategy_options(manner.strategy) or "queries" in manner.options:
        return manner
    others = {
        query: text
        for split in collection.splits.values()
        for query, text in split.queries.items()
        if query not in queries
    }
    return replace(manner, options={**manner.options, "queries": tuple(others.values())})


def _asking(
    prompts: Path | None, words: int | None, max_tokens: int | None, timeout: float, thinking: bool
) -> "Asking":
    from lorank.ranking.judges import Prompts
    from lorank.ranking.judges.prompts import Asking

    return Asking(Prompts.load(prompts, words, thinking=thinking), max_tokens, timeout, thinking=thinking)
