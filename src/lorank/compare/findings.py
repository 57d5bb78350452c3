"""What a collection says of its rows, in one sentence."""

from dataclasses import dataclass

from lorank.compare.found_statistics import CollectionStatistics, PairStatistics
from lorank.reporting.numbers import decimal, interval, is_known, p_clause, signed_decimal


@dataclass(frozen=True)
class Finding:
    """The ``sentence`` and its ``outcome``: better, worse, tie, untested or none."""

    sentence: str
    outcome: str


def find_sentence(collection: CollectionStatistics, measure: str) -> Finding:
    """Return what the rows of a collection come to on one measure.

    Args:
        collection: The statistics of the collection.
        measure: The measure.
    """
    where = (
        collection.data if collection.values is not None else f"the {collection.data[0].lower()}{collection.data[1:]}"
    )
    if not collection.measures:
        return Finding(f"On {where} no row has a result.", "none")
    of = collection.measures[measure]
    best = of.rows[0]
    if not of.pairs:
        return Finding(
            f"On {where}, {best.name} has the highest {measure}, {decimal(best.mean)}; nothing is tested.", "none"
        )
    against = [p for p in (of.pair(row.name, collection.baseline or "") for row in of.rows) if p is not None]
    if collection.baseline and against:
        found = _against_baseline(collection.baseline, against, measure, where, of.row(collection.baseline).mean)
        return Finding(found.sentence + _count_failed(collection), found.outcome)
    pairs = [pair for row in of.rows[1:] if (pair := of.pair(best.name, row.name)) is not None]
    beaten = sum(pair.finding == "better" for pair in pairs)
    tested = f"by the corrected test it is better than {beaten} of the {len(pairs)} others"
    if beaten < len(pairs):
        tested += ", and cannot be told from the rest"
    outcome = "better" if beaten == len(pairs) else "tie"
    return Finding(f"On {where}, {best.name} has the highest {measure}, {decimal(best.mean)}; {tested}.", outcome)


def _count_failed(collection: CollectionStatistics) -> str:
    count = len(collection.failed)
    return "" if not count else f" {count} {'row has' if count == 1 else 'rows have'} no result."


def _against_baseline(baseline: str, pairs: list[PairStatistics], measure: str, where: str, mean: float) -> Finding:
    best = pairs[0]
    found = {word: sum(pair.finding == word for pair in pairs) for word in ("better", "worse", "tie")}
    bounds = "" if best.interval is None else f" {interval(best.interval, sign=True)}"
    p = f", corrected {p_clause(best.p_corrected)}" if is_known(best.p_corrected) else ", not tested"
    verb = {
        "better": "is better than",
        "worse": "is worse than",
        "tie": "cannot be told from",
        "untested": "is not tested against",
    }[best.finding]
    sentence = (
        f"On {where}, {best.row} {verb} {baseline}: {measure} {decimal(mean + best.difference)} against "
        f"{decimal(mean)}, difference {signed_decimal(best.difference)}{bounds}{p}."
    )
    if len(pairs) > 1:
        ties = f"{found['tie']} {'tie' if found['tie'] == 1 else 'ties'}"
        sentence += f" Of {len(pairs)} rows: {found['better']} better, {found['worse']} worse, {ties}."
    return Finding(sentence, best.finding)
