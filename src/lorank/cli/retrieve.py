"""`lorank retrieve`: a first-stage run."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import Language, Negative
from lorank.cli.progress import console, progress_bars, stage
from lorank.cli.ranker_options import Kind, Long, MaxLength, Set, reading_of
from lorank.errors import UsageError
from lorank.tuned.naming import BM25_NAME, recognise

if TYPE_CHECKING:
    from lorank.lowrank import Adapter
    from lorank.ranking.scorers import BiEncoder
    from lorank.tuned.reading import ReadingSettings


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
    negative: Negative = "error",
    language: Language = "auto",
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; retrieval is deterministic.")] = 0,
) -> None:
    """Search the whole collection for every query of a split: by BM25, a bi-encoder, or their fusion.

    Examples:

        lorank retrieve --data pydocs --out bm25.run

        lorank retrieve --data pydocs --ranker minilm --long titled --fusion --split all --out fusion.run
    """
    import lorank
    from lorank import index as names

    if ranker == BM25_NAME:
        ranker = None
    if fusion and ranker is None:
        raise UsageError("--fusion needs a bi-encoder; add --ranker minilm")
    names.check_data(data, "--data")
    if ranker is not None:
        recognise(ranker, "--ranker")
    reading = reading_of(settings, max_length, long)
    if ranker is None and (reading.as_options() or kind):
        raise UsageError("--kind, --max-length, --long and --set belong to a bi-encoder; add --ranker minilm")
    from lorank.data import write_run
    from lorank.training.lists.retrieval import bm25_index, dense_run, fuse_runs, fusion_weights
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
            encoder, adapter = _encoder(ranker, kind, reading)
            with merged(adapter):
                run = dense_run(encoder, collection, queries | tune, depth, partial(on_progress, "encode documents"))
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


def _encoder(name: str, kind: str | None, reading: "ReadingSettings") -> "tuple[BiEncoder, Adapter | None]":
    """Return the bi-encoder of ``--ranker`` and its adapter; what scores pairs alone cannot search."""
    from lorank.ranking.scorers import BiEncoder
    from lorank.ranking.scorers.pretrained import is_classifier
    from lorank.tuned.open_ranker import kind_of, open_ranker

    if kind is None and recognise(name).kind == "model" and not is_classifier(name):
        kind = "bi-encoder" if kind_of(name) == "cross-encoder" else None  # an encoder that says nothing of its use
    model = open_ranker(name, kind=kind, reading=reading, flag="--ranker")
    if not isinstance(model.ranker, BiEncoder):
        raise UsageError(
            f"--ranker {name}: a ranker of kind {model.ranker.kind} cannot search a whole collection; retrieve with "
            "bm25 or a bi-encoder, and rerank with it"
        )
    return model.ranker, model.adapter
