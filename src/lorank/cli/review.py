"""`lorank review`: keywords, a search by them, and reranking whose scores are backed by quotations."""

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import Language, Negative
from lorank.cli.progress import console, progress_bars, stage
from lorank.errors import UsageError


def review(
    data: Annotated[str, typer.Option(help="A packaged collection or a BEIR folder; its queries may be long texts.")],
    judge: Annotated[str, typer.Option(help="What writes: causal:BASE (smollm2, ...) or openai:URL#MODEL.")],
    out: Annotated[Path, typer.Option(help="TREC run to write.")],
    evidence: Annotated[
        Path | None,
        typer.Option(help="JSON lines to write: query_id, document_id, score (null where it is void), evidence."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Rerank this run. [default: BM25 by the query and its keywords]")
    ] = None,
    keywords: Annotated[int, typer.Option(min=0, help="The most keywords that a query is searched with; 0: none.")] = 8,
    depth: Annotated[int, typer.Option(min=1, help="Documents per query that are scored.")] = 20,
    split: Annotated[str, typer.Option(help="The split whose queries are searched.")] = "test",
    negative: Negative = "error",
    language: Language = "auto",
    skip_bad: SkipBad = False,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; nothing is drawn.")] = 0,
) -> None:
    """Find what a text should cite: a language model names keywords, scores what is found, and quotes why (LitLLMs).

    A score whose quotation is not in the document is void.

    Examples:

        lorank review --data my-papers --judge openai:http://localhost:8000/v1#model --out review.run
        --evidence why.jsonl
    """
    import lorank
    from lorank import index as names
    from lorank.data import from_run, write_run
    from lorank.data.files import write_json_lines
    from lorank.ranking.attributed import as_run, extract_keywords, rerank_attributed
    from lorank.ranking.judges.opening import judge_of
    from lorank.ranking.judges.prompts import Asking
    from lorank.training.lists.retrieval import bm25_index, require_texts

    names.check_data(data, "--data")
    if judge.partition(":")[0] not in ("causal", "openai"):
        raise UsageError(f"--judge {judge}: give causal:BASE or openai:URL#MODEL, which can write")
    with stage(f"read {data}"), skipping(skip_bad, out) as on_bad:
        collection = lorank.load(data, negative=negative, language=language, on_bad=on_bad)
        documents = require_texts(collection)
        queries = dict(collection.split(split).queries)
        found = None
        if run is not None:
            found = from_run(str(run), collection, split, depth, path=run, unknown="skip", on_bad=on_bad)
    with stage(f"open {judge}"):
        writer: Any = judge_of(judge, Asking(max_tokens=128))
    if found is None:
        with stage("name keywords"):
            asked = extract_keywords(writer, queries, keywords) if keywords else queries
        found = bm25_index(collection).search(asked, depth)
    texts = {name: str(documents[collection.position[name]]) for row in found.values() for name in row}
    with progress_bars() as on_progress:
        said = partial(on_progress, "score and quote")
        made = rerank_attributed(writer, queries, found, texts, said)
    write_run(as_run(made), out, "review")
    rows = [
        {"query_id": query, "document_id": each.document, "score": each.score, "evidence": each.evidence}
        for query, row in made.items()
        for each in row
    ]
    if evidence is not None:
        write_json_lines(rows, evidence)
    void = sum(row["score"] is None for row in rows)
    print(json.dumps({"queries": len(made), "documents": len(rows), "void": void, "run": str(out)}))
    console.print(f"{len(rows) - void} scores of {len(rows)} are backed by what the documents say", soft_wrap=True)
