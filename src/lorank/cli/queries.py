"""`lorank queries`: training queries for a corpus that has none."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorank.cli import completion
from lorank.cli.options import Language, Negative
from lorank.cli.progress import console, progress_bars, stage
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.data.collection import Collection

FREE = ("titles", "first-sentences")


def queries(
    data: Annotated[str, typer.Option(help="A packaged collection or a BEIR folder.")],
    out: Annotated[Path, typer.Option(help="BEIR folder to write: the collection with these training queries.")],
    count: Annotated[int, typer.Option(min=1, help="Documents that get a query.")] = 1000,
    clusters: Annotated[
        int | None,
        typer.Option(min=1, help="Clusters of the corpus that they come from. [default: as many as --count]"),
    ] = None,
    temperature: Annotated[float, typer.Option(help="How freely they are drawn around the centres.")] = 1.0,
    writer: Annotated[
        str, typer.Option(help="titles, first-sentences, or a model: causal:BASE (smollm2, ...) or openai:URL#MODEL.")
    ] = "first-sentences",
    ranker: Annotated[
        str, typer.Option(autocompletion=completion.rankers, help="The bi-encoder whose vectors are clustered.")
    ] = "minilm",
    shortest: Annotated[int, typer.Option(min=0, help="Characters that a document has at least.")] = 300,
    negative: Negative = "error",
    language: Language = "auto",
    seed: Annotated[int, typer.Option(help="Seed of the clusters and the draws.")] = 0,
) -> None:
    """Make training queries for documents that stand for the whole corpus (DUQGen), and write them as a collection.

    Documents that dev and test judge relevant get no query. Train with the last candidates as negatives:
    `lorank train --data OUT --negatives-from bottom`.

    Examples:

        lorank queries --data my-data --count 500 --out my-data-queries

        lorank queries --data my-data --count 500 --writer causal:smollm2 --out my-data-queries
    """
    import numpy as np

    import lorank
    from lorank import index as names
    from lorank.data import write_beir
    from lorank.data.cluster_sampling import sample_by_clusters
    from lorank.tuned.dense_index import open_encoder
    from lorank.tuned.ranker import merged

    names.check_data(data, "--data")
    if writer not in FREE and writer.partition(":")[0] not in names.names("judge"):
        raise UsageError(f"--writer {writer}: give titles, first-sentences, causal:BASE or openai:URL#MODEL")
    if out.exists() and any(out.iterdir()):
        raise UsageError(f"--out {out} holds something already; give another folder")
    with stage(f"read {data}"):
        collection = lorank.load(data, negative=negative, language=language)
    known = _usable(collection, writer, shortest)
    with stage(f"open {ranker}"):
        encoder, adapter = open_encoder(ranker, None)
    with progress_bars() as on_progress, merged(adapter):
        texts = [str(collection.documents[i]) for i in known]
        vectors = encoder.encode(texts, on_progress=partial(on_progress, "encode documents"))
    count = min(count, len(known))
    drawn = sample_by_clusters(
        vectors,
        count,
        np.random.default_rng(seed),
        clusters=min(clusters or count, len(known)),
        temperature=temperature,
    )
    chosen = [known[i] for i in drawn.tolist()]
    made = _with_queries(collection, chosen, writer)
    write_beir(made, out)
    console.print(f"{len(made.train)} training queries of {len(known)} usable documents")
    print(out)


def _usable(collection: "Collection", writer: str, shortest: int) -> list[int]:
    """Return the positions of documents that may get a query: long enough, and not what dev or test look for."""
    from lorank.data.free_queries import free_queries, targets

    kept = targets(collection)
    if writer in FREE:
        named = free_queries(collection, writer, exclude=kept).qrels  # type: ignore[arg-type]
        names = {document for row in named.values() for document in row}
    else:
        names = set(collection.document_ids) - kept
    usable = [i for i, name in enumerate(collection.document_ids) if name in names]
    found = [i for i in usable if len(str(collection.documents[i])) >= shortest]
    if not found:
        raise UsageError(f"no document has {shortest} characters and is free of dev and test; lower --shortest")
    return found


def _with_queries(collection: "Collection", chosen: list[int], writer: str) -> "Collection":
    """Return the collection whose training split is one query for each of the chosen documents."""
    from dataclasses import replace

    from lorank.data.collection import Split
    from lorank.data.free_queries import free_queries, targets
    from lorank.ranking.types import Qrels

    ids = [collection.document_ids[i] for i in chosen]
    if writer in FREE:
        whole = free_queries(collection, writer, exclude=targets(collection))  # type: ignore[arg-type]
        queries = {f"free-{name}": whole.queries[f"free-{name}"] for name in ids}
    else:
        from lorank.ranking.judges.opening import judge_of
        from lorank.ranking.judges.prompts import Asking
        from lorank.ranking.judges.query_writing import write_queries

        with stage(f"open {writer}"):
            judge = judge_of(writer, Asking(max_tokens=32))
        with progress_bars() as on_progress:
            texts = [str(collection.documents[i]) for i in chosen]
            written = write_queries(judge, texts, on_progress=partial(on_progress, "write queries"))
        queries = {f"free-{name}": text for name, text in zip(ids, written, strict=True) if text}
        if not queries:
            raise UsageError(f"--writer {writer} wrote nothing that is a query")
    qrels: Qrels = {query: {query.removeprefix("free-"): 1} for query in queries}
    return replace(collection, splits={**collection.splits, "train": Split("train", queries, qrels)})
