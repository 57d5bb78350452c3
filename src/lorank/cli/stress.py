"""`lorank stress`: how much disturbed queries, attacked documents and other collections cost rankers."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank.cli import completion
from lorank.cli.bad_rows import SkipBad, skipping
from lorank.cli.options import Language, Negative
from lorank.cli.progress import progress_bars, stage
from lorank.cli.ranker_options import NAMES, Kind, Long, MaxLength, Set, reading_of
from lorank.cli.stress_deletion import check_deletion, deletion_table, retrain_all
from lorank.cli.width import cut_to_width
from lorank.errors import OnBad, UsageError
from lorank.tuned.naming import recognise

if TYPE_CHECKING:
    from lorank.ranking.robustness.casper import Sensitivity
    from lorank.ranking.robustness.formatspread import Spread
    from lorank.ranking.robustness.prompt_formats import PromptFormat
    from lorank.ranking.scorers.ranker import Ranker
    from lorank.tuned.certify import CertifiedRate
    from lorank.tuned.stress import Domain, StressReport, StressSettings


def stress(
    rankers: Annotated[
        list[str] | None,
        typer.Argument(
            autocompletion=completion.rankers,
            help=f"What is tried, one or more: {NAMES}, or lambdamart (trees on simple features, fitted on --data).",
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="The judged collection that the rankers are meant for.")] = None,
    other: Annotated[list[str] | None, typer.Option(help="Another collection, for the third task; repeat it.")] = None,
    perturbation: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=completion.names("perturbation"), help="A perturbation; repeat it. [default: all of them]"
        ),
    ] = None,
    synonyms: Annotated[
        Path | None, typer.Option(help="Groups of words of one meaning, one group per line. [default: plain English]")
    ] = None,
    split: Annotated[str, typer.Option(help="Which split's queries and judgments.")] = "test",
    measure: Annotated[str, typer.Option(autocompletion=completion.measures, help="What is measured.")] = "nDCG@10",
    depth: Annotated[int, typer.Option(min=2, help="BM25's best so many documents of a query are ranked.")] = 50,
    queries: Annotated[int, typer.Option(min=1, help="At most so many queries of each collection.")] = 100,
    certify: Annotated[
        int | None, typer.Option(min=0, help="Certify the first three places against up to so many replaced words.")
    ] = None,
    formats: Annotated[
        int | None, typer.Option(min=2, help="Try so many prompt formats of a language model that answers yes or no.")
    ] = None,
    budget: Annotated[int, typer.Option(min=40, help="With --formats: how many pairs are asked in all.")] = 400,
    delete_training: Annotated[
        float | None,
        typer.Option(
            help="Train again without this share of the training data, above 0 and below 1: LambdaMART, and runs of "
            "`lorank train` by the recipe in their run.json."
        ),
    ] = None,
    deleted: Annotated[str, typer.Option(help="With --delete-training: queries or documents.")] = "queries",
    minutes: Annotated[
        float | None, typer.Option(help="With --delete-training: at most so many minutes for each training.")
    ] = None,
    interactions: Annotated[
        Path | None,
        typer.Option(help="A log of user, item (tab-separated, by time): delete the one event that matters most."),
    ] = None,
    kind: Kind = None,
    max_length: MaxLength = None,
    long: Long = None,
    settings: Set = None,
    negative: Negative = "error",
    language: Language = "auto",
    skip_bad: SkipBad = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of samples, perturbations and draws.")] = 0,
) -> None:
    """Put rankers through five tasks on the same candidates: variance, query types, corpora, typos, attacked documents.

    A sixth, --delete-training, trains them again on less.

    Examples:

        lorank stress bm25 lambdamart minilm runs/first --data nfcorpus --other cranfield

        lorank stress runs/first --data my-data --perturbation typos --perturbation stuffing --certify 3

        lorank stress lambdamart runs/first --data my-data --delete-training 0.5 --minutes 10

        lorank stress --interactions log.tsv
    """
    if interactions is not None:
        if rankers or data:
            raise UsageError("--interactions judges a recommender on a log; leave out the rankers and --data")
        with skipping(skip_bad) as asked:
            found = _sensitivity(interactions, seed, asked)
        print(json.dumps(asdict(found), indent=1) if as_json else _sensitivity_text(found))
        return
    if not rankers or data is None:
        raise UsageError("name one ranker at least, and the collection with --data")
    from lorank import index

    for name in rankers:
        recognise(name, "RANKERS")
    for name in perturbation or ():
        index.check("perturbation", name, "--perturbation")
    for name in (data, *(other or ())):
        index.check_data(name, "--data" if name == data else "--other")
    reading = reading_of(settings, max_length, long)
    deletion = None
    if delete_training is not None:
        from lorank.training.deletion import DeletionSettings

        deletion = DeletionSettings(delete_training, deleted, minutes, seed)  # type: ignore[arg-type]
    elif minutes is not None:
        raise UsageError("--minutes bounds the trainings of --delete-training; give that too, or leave it out")
    check_deletion(list(dict.fromkeys(rankers)), deletion)
    from lorank.ranking.metrics.measures import parse_measure
    from lorank.ranking.robustness.rewordings import packaged_synonyms, read_synonyms
    from lorank.tuned.stress import StressSettings

    parse_measure(measure)
    table = packaged_synonyms() if synonyms is None else read_synonyms(synonyms)
    names = tuple(dict.fromkeys(perturbation or [each for each in index.names("perturbation") if each != "none"]))
    wanted = StressSettings(names, measure, table, seed)
    with skipping(skip_bad) as on_bad:
        domains = [
            _domain(name, split, depth, queries, negative, seed, language if name == data else "auto", on_bad)
            for name in (data, *(other or ()))
        ]
    from lorank.tuned.open_ranker import open_ranker

    results, extras = {}, {}
    for name in dict.fromkeys(rankers):
        with stage(f"open {name}"):
            own = recognise(name).kind in ("bm25", "trees")
            model: Ranker = (
                open_ranker(name, collection=domains[0].data, flag="RANKERS")
                if own
                else open_ranker(name, kind=kind, reading=reading, flag="RANKERS")
            )
        results[name], extras[name] = _try(model, domains, wanted, certify, formats, budget, name)
    again = retrain_all(results, domains[0], deletion, measure)
    if as_json:
        plain = {name: _plain(results[name], *extras[name]) for name in results}
        for name, row in plain.items():
            row["deletion"] = asdict(again[name]) if name in again else None
        print(json.dumps(plain, indent=1))
    else:
        head = f"{{:<{max(16, *(len(name) for name in results))}}}"
        last = deletion_table(again, deletion, head)
        print(cut_to_width("\n\n".join(_tables(results, wanted) + last + _extras_text(extras))))


def _domain(
    name: str,
    split: str,
    depth: int,
    queries: int,
    negative: Any,
    seed: int,
    language: str,
    on_bad: OnBad | None,
) -> "Domain":
    import numpy as np

    import lorank
    from lorank.training.lists.retrieval import bm25_index
    from lorank.tuned.calibrate import sample_queries
    from lorank.tuned.stress import Domain

    with stage(f"read {name}"):
        collection = lorank.load(name, negative=negative, on_bad=on_bad, language=language)
    judged = collection.split(split)
    asked = sample_queries(judged, queries, np.random.default_rng(seed))
    return Domain(collection, judged, bm25_index(collection).search(asked, depth))


Extra = tuple["CertifiedRate | None", "tuple[list[PromptFormat], Spread] | None"]


def _try(
    model: "Ranker",
    domains: "list[Domain]",
    wanted: "StressSettings",
    certify: int | None,
    formats: int | None,
    budget: int,
    name: str,
) -> "tuple[StressReport, Extra]":
    from lorank.tuned.certify import certified_rate
    from lorank.tuned.format_stress import spread_of_formats
    from lorank.tuned.stress import stress as run_tasks

    with progress_bars() as on_progress:

        def report(what: str, done: int, total: int) -> None:
            on_progress(f"{name}: {what}", done, total)

        found = run_tasks(model, domains[0], domains[1:], wanted, report)
        rate = None
        if certify is not None:
            rate = certified_rate(
                model,
                domains[0],
                wanted.synonyms or {},
                most=certify,
                seed=wanted.seed,
                on_progress=lambda done, total: report("certify queries", done, total),
            )
        spread = None if formats is None else spread_of_formats(model, domains[0], formats, budget, seed=wanted.seed)
    return found, (rate, spread)


def _tables(results: "dict[str, StressReport]", wanted: "StressSettings") -> list[str]:
    first = next(iter(results.values()))
    width = max(16, *(len(name) for name in results))
    head = f"{{:<{width}}}"
    size = first.variance
    tables = [
        "\n".join(
            [
                f"1. variance: {wanted.measure} over {size.queries} queries in {size.groups} independent groups",
                f"{head.format('ranker')} {'mean':>7}  {'95 % interval':<17} {'variance':>8} {'worst tenth':>11}",
                *(
                    f"{head.format(name)} {each.variance.mean:>7.4f}  [{each.variance.interval[0]:.4f}, "
                    f"{each.variance.interval[1]:.4f}]  {each.variance.variance:>8.4f} "
                    f"{each.variance.worst_tenth:>11.4f}"
                    for name, each in results.items()
                ),
            ]
        )
    ]
    for title, key in (("2. by type of query", "types"), ("3. by corpus", "corpora")):
        columns = list(getattr(first, key))
        if columns:
            counts = [f"{column} ({getattr(first, key)[column].queries})" for column in columns]
            cells = {
                name: [f"{s.mean:.4f} {s.drop:+.0%}" for s in (getattr(each, key)[c] for c in columns)]
                for name, each in results.items()
            }
            tables.append(_grid(f"{title}: {wanted.measure} and drop rate", counts, cells, head))
    if first.queries:
        cells = {
            name: [f"{d.drop:+.1%} rbo {d.moved.rbo:.2f}" for d in each.queries.values()]
            for name, each in results.items()
        }
        columns = [f"{name} ({each.changed:.0%})" for name, each in first.queries.items()]
        tables.append(_grid("4. disturbed queries (share changed): drop rate, RBO of the lists", columns, cells, head))
    if first.documents:
        cells = {name: [_attacked(a) for a in each.documents.values()] for name, each in results.items()}
        tables.append(
            _grid(
                "5. documents: drop rate, and of attacks the share that enters the first ten",
                list(first.documents),
                cells,
                head,
            )
        )
    return tables


def _attacked(found: Any) -> str:
    return f"{found.drop:+.1%}" + ("" if found.entered is None else f" in {found.entered:.0%}")


def _grid(title: str, columns: list[str], cells: dict[str, list[str]], head: str) -> str:
    """Return a table of rankers by columns, each as wide as its widest cell."""
    widths = [max(len(column), *(len(row[i]) for row in cells.values())) for i, column in enumerate(columns)]
    lines = [title, head.format("ranker") + "  " + "  ".join(c.rjust(w) for c, w in zip(columns, widths))]
    lines += [head.format(n) + "  " + "  ".join(c.rjust(w) for c, w in zip(row, widths)) for n, row in cells.items()]
    return "\n".join(lines)


def _extras_text(extras: "dict[str, Extra]") -> list[str]:
    lines = []
    for name, (rate, spread) in extras.items():
        if rate is not None:
            lines.append(
                "\n".join(
                    [
                        f"{name}: share of {rate.queries} queries whose first {rate.top} are certain to stay",
                        "replaced words  " + "".join(f"{radius:>6}" for radius in range(len(rate.rates))),
                        "certain         " + "".join(f"{share:>6.0%}" for share in rate.rates),
                    ]
                )
            )
        if spread is not None:
            formats, found = spread
            lines.append(
                f"{name}: pairwise accuracy from {found.lowest:.3f} ({formats[found.worst]}) to {found.highest:.3f} "
                f"({formats[found.best]}) over {len(formats)} prompt formats, {found.evaluations} pairs asked"
            )
    return lines


def _plain(found: "StressReport", rate: Any, spread: Any) -> dict[str, Any]:
    row = asdict(found)
    del row["base"]
    row["certified"] = None if rate is None else asdict(rate)
    row["formats"] = None
    if spread is not None:
        formats, best = spread
        row["formats"] = asdict(best) | {"spread": best.spread, "formats": [asdict(each) for each in formats]}
    return row


def _sensitivity(path: Path, seed: int, asked: OnBad | None) -> "Sensitivity":
    import numpy as np

    from lorank.data.bad_rows import collected
    from lorank.errors import DataError
    from lorank.ranking.robustness.casper import measure_sensitivity
    from lorank.reading import lines

    events = []
    with collected(asked) as on_bad:
        for number, line in lines(str(path), on_bad):
            columns = line.rstrip("\n").split("\t")
            if len(columns) < 2 or not (columns[0] and columns[1]):
                remedy = "write user, tab, item, in the order of time"
                on_bad(DataError(path, number, "fewer than two columns", remedy), line)
                continue
            events.append((columns[0], columns[1]))
    if len(events) < 2:
        raise DataError(path, None, "fewer than two events", "give a log of user and item")
    return measure_sensitivity(events, rng=np.random.default_rng(seed))


def _sensitivity_text(found: "Sensitivity") -> str:
    return (
        f"{found.events} events; event {found.event + 1} has most descendants, {found.reached}\n"
        f"{'deleted':<16} {'RLS (RBO)':>9} {'RLS (Jaccard@10)':>16}\n"
        f"{'nothing':<16} {1.0:>9.4f} {1.0:>16.4f}\n"
        f"{'a random event':<16} {found.random_rbo:>9.4f} {found.random_jaccard:>16.4f}\n"
        f"{'that event':<16} {found.rbo:>9.4f} {found.jaccard:>16.4f}"
    )
