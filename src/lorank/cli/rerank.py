"""`lorank rerank`: reorder a run with a ranker."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from lorank.cli.progress import console, progress_bars


def rerank(
    ranker: Annotated[str, typer.Option(help="The --out folder of `lorank train`.")],
    data: Annotated[str, typer.Option(help="The collection whose texts are scored.")],
    run: Annotated[Path, typer.Option(help="The run to reorder.")],
    out: Annotated[Path, typer.Option(help="TREC run to write; .gz compresses it.")],
    split: Annotated[str, typer.Option(help="train, dev, test, or all.")] = "test",
    depth: Annotated[int, typer.Option(min=1, help="Documents of each query that are scored.")] = 100,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; scoring is deterministic.")] = 0,
) -> None:
    """Score the documents of a run and write them in the new order.

    Example: `lorank rerank --ranker runs/first --data pydocs --run bm25.run --out tuned.run`
    """
    import lorank
    from lorank.data import from_run, read_run, write_run
    from lorank.data.collection import Split
    from lorank.training import load_ranker, rerank_run

    collection = lorank.load(data)
    model = load_ranker(ranker)
    chosen = list(collection.splits) if split == "all" else [split]
    queries = {q: text for name in chosen for q, text in collection.split(name).queries.items()}
    candidates = from_run(read_run(run), collection, Split(split, queries, {}), depth, path=run)
    with progress_bars() as listen:
        reranked = rerank_run(model, collection, queries, candidates, partial(listen, "score documents"))
    write_run(reranked, out, "lorank")
    console.print(f"{len(reranked)} queries, {sum(map(len, reranked.values()))} documents")
    print(out)
