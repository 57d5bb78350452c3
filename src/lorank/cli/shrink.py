"""`lorank shrink`: a ranker of fewer numbers, and how far it keeps the order."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank.cli import completion
from lorank.cli.agree import agreement_text
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import Language, key_value
from lorank.cli.progress import progress_bars, stage
from lorank.cli.ranker_options import NAMES
from lorank.cli.width import cut_to_width
from lorank.errors import LorankError

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.lowrank import Shrunk
    from lorank.ranking.types import Run
    from lorank.tuned.shrinking import CalibrationPairs


def shrink(
    ranker: Annotated[
        str, typer.Argument(metavar="RANKER", autocompletion=completion.rankers, help=f"A ranker: {NAMES}.")
    ],
    data: Annotated[str, typer.Option(help="The collection whose texts are looked at; judgments are not needed.")],
    out: Annotated[Path, typer.Option(help="The folder to write, which must not exist.")],
    method: Annotated[str, typer.Option(help="The shrinking method, such as eora, lord, welore or svd.")] = "eora",
    ratio: Annotated[
        float | None, typer.Option(help="The share of the weights that is kept, above 0 and up to 1. [default: 0.5]")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="The same rank for every layer, in place of --ratio.")] = None,
    ranks: Annotated[
        str | None,
        typer.Option(help="How ranks are chosen: uniform, energy, threshold, or order (those that keep the order)."),
    ] = None,
    grid: Annotated[str | None, typer.Option(help="Weights stay on this grid, fp4 or fp8, with factors added.")] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="A module that is left alone; repeat it.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="An option of the method, key=value; repeat it.")] = None,
    calibration_split: Annotated[str, typer.Option(help="Which split's queries the method looks at.")] = "train",
    calibration_queries: Annotated[int, typer.Option(min=1, help="At most so many of them, drawn by the seed.")] = 32,
    calibration_depth: Annotated[int, typer.Option(min=2, help="BM25's best so many documents of each.")] = 20,
    split: Annotated[str, typer.Option(help="Which split's queries the order is compared on.")] = "test",
    queries: Annotated[int, typer.Option(min=1, help="At most so many of them, drawn by the seed.")] = 200,
    candidates: Annotated[int, typer.Option(min=2, help="Both rank BM25's best so many documents of a query.")] = 50,
    language: Language = "auto",
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the drawn queries, of methods that draw, and of resampling.")] = 0,
) -> None:
    """Write a ranker whose layers are products of two factors, and show how far it keeps the order of the original.

    The folder holds the ranker, shrink.json (what became of each layer) and agreement.json; `lorank report` shows both.

    Examples:

        lorank shrink runs/first --data my-data --ratio 0.5 --out runs/half

        lorank shrink runs/cross --data my-data --method eora --ranks order --ratio 0.5 --out runs/ordered
    """
    from lorank import index
    from lorank.tuned.naming import recognise

    recognise(ranker, "RANKER")
    index.check("shrink", method, "--method")
    if ranks is not None:
        index.check("rank-policy", ranks, "--ranks")
    index.check_data(data, "--data")
    if out.exists():
        raise LorankError(f"{out} exists; nothing is written over, give another --out")
    options = dict(key_value(text, "--option") for text in option or ())

    import numpy as np

    from lorank.files import replaced_folder, write_json
    from lorank.tuned.agreement import agreement_as_json, compare_rankers
    from lorank.tuned.open_ranker import open_ranker
    from lorank.tuned.shrinking import ShrinkSettings, names_of, shrink_ranker

    settings = ShrinkSettings(method, ratio, rank, ranks, names_of(exclude), grid, seed, options)
    rng = np.random.default_rng(seed)
    collection, compared, found = _read(data, language, skip_bad, split, queries, candidates, rng)
    pairs = None
    if settings.looks_at_texts:
        pairs = _calibration(collection, calibration_split, calibration_queries, calibration_depth, rng)
    with stage(f"open {ranker}"):
        original = open_ranker(ranker, flag="RANKER")
    with progress_bars() as on_progress:
        small, report = shrink_ranker(
            original, settings, pairs, lambda done, total: on_progress("factorise the layers", done, total)
        )
        agreed = compare_rankers(
            original,
            small,
            collection,
            compared,
            found,
            rng=rng,
            qrels=collection.split(split).qrels,
            on_progress=on_progress,
        )
    with replaced_folder(out) as draft, stage(f"write {out}"):
        small.save(draft / "model")
        write_json(draft / "shrink.json", _report_as_json(ranker, report))
        shown = agreement_as_json(ranker, str(out), agreed.agreement, agreed.costs)
        write_json(draft / "agreement.json", shown)
    if as_json:
        print(json.dumps({"shrink": _report_as_json(ranker, report), "agreement": shown}, indent=1))
    else:
        text = agreement_text(ranker, str(out), agreed.agreement, agreed.costs, collection, split)
        print(cut_to_width(f"{_report_text(report)}\n\n{text}"))


def _read(
    data: str, language: str, skip_bad: bool, split: str, most: int, depth: int, rng: Any
) -> "tuple[Collection, dict[str, str], Run]":
    """Return the collection, the drawn queries of a split, and their candidates."""
    import lorank
    from lorank.training.lists.retrieval import bm25_index

    with stage(f"read {data}"), skipping(skip_bad) as on_bad:
        collection = lorank.load(data, on_bad=on_bad, language=language)
        part = collection.split(split)
        texts = _drawn(part.queries, most, rng)
    return collection, texts, part.candidates or bm25_index(collection).search(texts, depth)


def _drawn(queries: dict[str, str], most: int, rng: Any) -> dict[str, str]:
    known = list(queries)
    kept = known if len(known) <= most else [known[i] for i in sorted(rng.permutation(len(known))[:most])]
    return {query: queries[query] for query in kept}


def _calibration(collection: "Collection", split: str, most: int, depth: int, rng: Any) -> "CalibrationPairs":
    from lorank.training.lists.retrieval import bm25_index
    from lorank.tuned.shrinking import CalibrationPairs

    part = collection.split(split)
    texts = _drawn(part.queries, most, rng)
    found = part.candidates or bm25_index(collection).search(texts, depth)
    return CalibrationPairs.of(collection, texts, found, depth)


def _report_as_json(name: str, report: "Shrunk") -> dict[str, Any]:
    return {"ranker": name, **asdict(report), "ratio": report.ratio}


def _report_text(report: "Shrunk") -> str:
    ranks = [layer.rank for layer in report.layers if layer.rank is not None]
    dense = len(report.layers) - len(ranks)
    span = f"ranks {min(ranks)} to {max(ranks)}" if ranks else "no layer is factored"
    return (
        f"{report.method}, ranks {report.ranks}: {report.weights[1]:,} of {report.weights[0]:,} weights of "
        f"{len(report.layers)} layers ({report.ratio:.1%}; {report.bytes[1] / report.bytes[0]:.1%} of their bytes), "
        f"{span}" + (f", {dense} stay dense" if dense and ranks else "")
    )
