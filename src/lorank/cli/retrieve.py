"""`lorank retrieve`: a first-stage run."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.dense_index import Probes
from lorank.cli.options import Language, Negative
from lorank.cli.progress import console, progress_bars, stage
from lorank.cli.ranker_options import Kind, Long, MaxLength, Set, reading_of
from lorank.errors import UsageError
from lorank.tuned.naming import BM25_NAME, recognise


def retrieve(
    data: Annotated[str, typer.Option(help="A packaged collection or a BEIR folder.")],
    out: Annotated[Path, typer.Option(help="TREC run to write; .gz compresses it.")],
    ranker: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.rankers,
            help="bm25, or a bi-encoder: minilm, a model's folder or Hub name, a PEFT folder, or the --out folder of "
            "`lorank train`. [default: bm25]",
        ),
    ] = None,
    kind: Kind = None,
    max_length: MaxLength = None,
    long: Long = None,
    settings: Set = None,
    fusion: Annotated[bool, typer.Option("--fusion", help="Fuse with BM25, weights chosen on dev.")] = False,
    split: Annotated[str, typer.Option(help="train, dev, test, or all.")] = "test",
    depth: Annotated[int, typer.Option(min=1, help="Documents a query.")] = 100,
    index: Annotated[Path | None, typer.Option(help="Folder of the BM25 index; default: the cache.")] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a dense index (`lorank index`): its vectors are used, and documents that it lacks are "
            "encoded and added; with --pipeline it holds such a folder for each bi-encoder, called as its engine. "
            "[default: all documents are encoded anew]"
        ),
    ] = None,
    probes: Probes = None,
    pipeline: Annotated[
        Path | None,
        typer.Option(help="In place of --ranker: a pipeline, as `lorank tune PIPELINE.toml` writes best.toml."),
    ] = None,
    negative: Negative = "error",
    language: Language = "auto",
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; retrieval is deterministic.")] = 0,
) -> None:
    """Search the whole collection for every query of a split: by BM25, a bi-encoder, or their fusion.

    Examples:

        lorank retrieve --data pydocs --out bm25.run

        lorank retrieve --data pydocs --ranker minilm --long titled --fusion --split all --out fusion.run

        lorank retrieve --data pydocs --ranker runs/first --vectors runs/first/vectors --fusion --out fusion.run

        lorank retrieve --data pydocs --pipeline runs/tune/best.toml --vectors runs/tune/vectors --out best.run
    """
    import lorank
    from lorank import index as names

    if ranker == BM25_NAME:
        ranker = None
    if fusion and ranker is None:
        raise UsageError("--fusion needs a bi-encoder; add --ranker minilm")
    names.check_data(data, "--data")
    if pipeline is not None:
        if ranker or fusion or probes or index or settings or kind or max_length or long:
            raise UsageError(
                "--pipeline says what searches and how; give it with --data, --split, --depth, --vectors and --out "
                "alone"
            )
        _by_pipeline(pipeline, data, split, depth, vectors, out, negative, language, skip_bad)
        return
    if ranker is not None:
        recognise(ranker, "--ranker")
    reading = reading_of(settings, max_length, long)
    if ranker is None and vectors is not None:
        raise UsageError("--vectors belong to a bi-encoder; add --ranker minilm, or --index for BM25's own")
    if probes is not None and vectors is None:
        raise UsageError("--probes belongs to a dense index that has lists; add --vectors, or leave it out")
    if ranker is None and (reading.as_options() or kind):
        raise UsageError("--kind, --max-length, --long and --set belong to a bi-encoder; add --ranker minilm")
    from lorank.data import write_run
    from lorank.training.lists.retrieval import bm25_index, dense_run, fuse_runs, fusion_weights, require_texts
    from lorank.tuned.dense_index import indexed_run, open_encoder, open_index
    from lorank.tuned.ranker import merged

    with stage(f"read {data}"), skipping(skip_bad, out) as on_bad:
        collection = lorank.load(data, negative=negative, on_bad=on_bad, language=language)
    chosen = list(collection.splits) if split == "all" else [split]
    queries = {q: text for name in chosen for q, text in collection.split(name).queries.items()}
    with progress_bars() as on_progress:
        if ranker is None:
            run = bm25_index(collection, index).search(queries, depth)
        else:
            tune = collection.dev.queries if fusion else {}
            encoder, adapter = open_encoder(ranker, kind, reading)
            if vectors is None:
                with merged(adapter):
                    said = partial(on_progress, "encode documents")
                    run = dense_run(encoder, collection, queries | tune, depth, said)
            else:
                require_texts(collection)
                held = open_index(vectors, encoder, ranker, reading=reading.as_options(), kind=kind)
                run = indexed_run(held, encoder, adapter, collection, queries | tune, depth, on_progress, probes=probes)
            if fusion:
                bm25 = bm25_index(collection, index).search(queries | tune, depth)
                parts = [{q: each[q] for q in tune} for each in (bm25, run)]
                weights = fusion_weights(parts, collection.dev)
                console.print(f"weights chosen on dev: BM25 {weights[0]:.2f}, {ranker} {weights[1]:.2f}")
                run = fuse_runs([bm25, run], weights, depth)
            run = {q: run[q] for q in queries}
    write_run(run, out, "lorank")
    console.print(f"{len(run)} queries, {sum(map(len, run.values()))} documents")
    print(out)


def _by_pipeline(
    path: Path,
    data: str,
    split: str,
    depth: int,
    vectors: Path | None,
    out: Path,
    negative: str,
    language: str,
    skip_bad: bool,
) -> None:
    """Write the run of a pipeline whose knobs have one value each."""
    import lorank
    from lorank.compare.pipelines import open_stages, read_pipeline
    from lorank.data import write_run
    from lorank.data.collection import Split
    from lorank.tuned.second_stage import best_of_run

    found = read_pipeline(path)
    open_knobs = [name for name, values in found.knobs.items() if len(values) > 1]
    if open_knobs:
        raise UsageError(
            f"--pipeline {path}: {open_knobs[0]} has several values; tune it first by `lorank tune {path}`, and give "
            "the best.toml that it writes"
        )
    with stage(f"read {data}"), skipping(skip_bad, out) as on_bad:
        collection = lorank.load(data, negative=negative, on_bad=on_bad, language=language)
    chosen = list(collection.splits) if split == "all" else [split]
    queries = {q: text for name in chosen for q, text in collection.split(name).queries.items()}
    with progress_bars() as on_progress:
        stages = open_stages(found, collection, Split(split, queries, {}), vectors=vectors, on_progress=on_progress)
        run = stages.run(found.setting)
    cut = best_of_run(run, depth)
    write_run(cut, out, "pipeline")
    console.print(f"{len(cut)} queries, {sum(map(len, cut.values()))} documents")
    print(out)
