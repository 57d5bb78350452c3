"""`lorank rank`: one query, ranked JSON lines."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from lorank import index
from lorank.cli import completion
from lorank.cli.documents import FORMATS, read_documents
from lorank.cli.progress import stage
from lorank.cli.ranker_options import NAMES, Kind, Label, Long, MaxLength, Set, reading_of
from lorank.errors import UsageError
from lorank.tuned.naming import recognise

if TYPE_CHECKING:
    from lorank.tuned.ranker import TunedRanker


def rank(
    ranker: Annotated[str, typer.Option(autocompletion=completion.rankers, help=f"What ranks: {NAMES}.")],
    query: Annotated[str, typer.Option(help="The query.")],
    documents: Annotated[
        str,
        typer.Option(
            help="JSON lines (strings, or objects with text and title), text (a document per line), Markdown (a "
            "document per section), CSV or TSV; - reads standard input."
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(FORMATS)}. [default: by the file's name, else by its first line]"),
    ] = None,
    column: Annotated[str | None, typer.Option(help="Of CSV and TSV: the column that holds the text.")] = None,
    kind: Kind = None,
    label: Label = None,
    max_length: MaxLength = None,
    long: Long = None,
    settings: Set = None,
    top: Annotated[int | None, typer.Option(min=1, help="Print only the best so many.")] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            autocompletion=completion.names("normalisation", "probability", "raw"),
            help="What is printed as the score: probability (of a calibrated ranker), raw, or the scores normalised "
            "over the list: z, min-max, softmax, rank, share. [default: probability where calibrated, else raw]",
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Print only documents whose score, on the printed scale, is this or more.")
    ] = None,
    abstain: Annotated[
        bool,
        typer.Option(
            "--above-threshold",
            "--abstain",
            help="Print only documents at or above the certified threshold of `lorank calibrate --precision-at`.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; scoring is deterministic.")] = 0,
) -> None:
    """Rank documents for one query; prints {"index", "score", "text"} best first.

    With --threshold or --above-threshold, {"abstain": true, ...} says that no document is relevant.

    Examples:

        lorank rank --ranker runs/first --query "sort a dict by value" --documents docs.jsonl --top 3

        lorank rank --ranker minilm --query "sort a dict by value" --documents notes.md --long max

        lorank rank --ranker bm25 --query "sort a dict by value" --documents docs.csv --column body
    """
    recognise(ranker, "--ranker")
    if scale is not None:
        index.check("normalisation", scale, "--scale", also=("probability", "raw"))
    if abstain and threshold is not None:
        raise UsageError("--above-threshold takes the ranker's own threshold; leave out --threshold")
    reading = reading_of(settings, max_length, long)
    texts = read_documents(documents, format, column)
    with stage(f"open {ranker}"):
        from lorank.tuned.open_ranker import open_ranker

        model = open_ranker(ranker, kind=kind, label=label, reading=reading, flag="--ranker")
    shown, order, least = _scored(model, query, texts, scale, abstain, threshold)
    kept = [i for i in order if least is None or shown[i] >= least][:top]
    for i in kept:
        print(json.dumps({"index": i, "score": shown[i], "text": texts[i]}, ensure_ascii=False))
    if not kept and least is not None:
        print(json.dumps({"abstain": True, "best": max(shown, default=None), "threshold": least}))


def _scored(
    model: "TunedRanker", query: str, texts: list[str], scale: str | None, abstain: bool, threshold: float | None
) -> tuple[list[float], list[int], float | None]:
    """Return the numbers to print, the places best first, and the least number that is printed."""
    import numpy as np

    from lorank.ranking.calibration import normalise

    scores = model.score(query, texts, raw=True)
    order = [int(i) for i in np.argsort(-scores, kind="stable")]
    calibrated = model.calibration
    if calibrated is None and (scale == "probability" or abstain):
        raise UsageError("this ranker has no calibration; run `lorank calibrate` with it first")
    scale = scale or ("raw" if calibrated is None else "probability")
    if abstain and scale not in ("probability", "raw"):
        raise UsageError(f"--scale {scale}: a certified threshold is on the scale of the scores or the probabilities")
    if scale == "probability":
        assert calibrated is not None
        shown = calibrated(scores)
    else:
        shown = scores if scale == "raw" else normalise(scores, scale)
    if not abstain:
        return [float(each) for each in shown], order, threshold
    assert calibrated is not None
    found = calibrated.threshold
    if found is None:
        raise UsageError("this ranker has no certified threshold; run `lorank calibrate` with --precision-at 0.9")
    least = np.array([found.score], np.float32)
    return [float(each) for each in shown], order, float((calibrated(least) if scale == "probability" else least)[0])
