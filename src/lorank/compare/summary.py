"""A comparison as Markdown text, for a terminal or a README."""

import textwrap
from collections.abc import Callable

from lorank.compare.exports import escape_markdown
from lorank.compare.found_statistics import CollectionStatistics, MeasureStatistics, PairStatistics
from lorank.compare.results import ExperimentResult
from lorank.compare.statistics import ExperimentStatistics
from lorank.compare.statistics_settings import StatisticsSettings
from lorank.ranking.metrics.corrections import CORRECTION_NAMES
from lorank.ranking.metrics.table import Row, in_width, markdown

LEAST_NAME = 16
"""Names are cut to no fewer letters than these."""


def write_summary(
    result: ExperimentResult,
    found: ExperimentStatistics,
    width: int | None = 80,
    write: Callable[[str], str] = escape_markdown,
) -> str:
    """Return a block per collection: the rows and tests of its measures, the failed rows, and what to know of them.

    With a width only the first measure is shown, which is the one that dev chose by.

    Args:
        result: The experiment.
        found: Its statistics.
        width: The width in letters; rows of a wider table become blocks of lines. None leaves tables as they are.
        write: What is done to a name before it is written; `escape_markdown` keeps a table of Markdown whole.
    """
    parts = [f"# {write(result.name)}"]
    for collection in [*found.collections, *([found.mean] if found.mean else [])]:
        parts += _collection(collection, result, width, write)
    compared = any(of.pairs for c in found.collections for of in c.measures.values())
    if compared:
        parts.append(_wrap(explain_tests(result.statistics), width))
    return "\n\n".join(parts) + "\n"


def _collection(
    collection: CollectionStatistics, result: ExperimentResult, width: int | None, write: Callable[[str], str]
) -> list[str]:
    counted = f"{collection.queries} queries in {collection.groups} independent groups"
    parts = [f"## {write(collection.data)}" + (f"\n\n{counted}" if collection.queries else "")]
    shown = list(collection.measures.items())
    for measure, of_measure in shown if width is None else shown[:1]:
        parts.append(_table(of_measure, collection.baseline, measure, width, write))
        pairs = [p for p in of_measure.pairs if collection.baseline not in (p.row, p.baseline)]
        if pairs:
            parts.append(in_width([_pair(pair, write) for pair in pairs], width))
        detectable = sorted(p.detectable for p in of_measure.pairs if p.detectable)  # 0 of rows that are the same
        if detectable:
            parts.append(_wrap(explain_power(detectable, measure, result.statistics), width))
    parts += [_wrap(f"{write(name)} failed: {write(why)}", width) for name, why in collection.failed.items()]
    return parts + [_wrap(note if width is not None else write(note), width) for note in collection.notes]


def explain_power(detectable: list[float], measure: str, settings: StatisticsSettings) -> str:
    """Return the sentence on the smallest difference that could have been shown, of sorted values of the pairs."""
    low, high = f"{detectable[0]:.4f}", f"{detectable[-1]:.4f}"
    size = low if low == high else f"{low} to {high}, depending on the pair"
    return (
        f"A true difference of {measure} of {size}, would be found in {settings.power:.0%} of such experiments by one "
        f"test at level {settings.level:g}; a smaller one can be there and be missed."
    ).replace(f"{low}, would", f"{low} would")


def explain_tests(settings: StatisticsSettings) -> str:
    """Return the sentence on how differences were tested."""
    return (
        f"Intervals: {settings.confidence:.0%}, over groups of queries and seeds ({settings.resamples} "
        f"resamples, seed {settings.seed}). p: paired, two-sided, corrected by "
        f"{CORRECTION_NAMES[settings.correction]} over the comparisons of a collection and measure; a finding has "
        f"p < {settings.level:g}, all else is a tie."
    )


def _table(
    of: MeasureStatistics, baseline: str | None, measure: str, width: int | None, write: Callable[[str], str]
) -> str:
    """Return the rows of a measure as the fullest table that fits, long names cut in the middle; else as blocks."""
    rows = [_row(of, row.name, baseline, measure, write) for row in of.rows]
    if width is None:
        return markdown(rows)
    for left_out in ((), ("seeds",), ("seeds", "interval")):
        fewer = [{k: v for k, v in row.items() if k not in left_out} for row in rows]
        table = markdown(fewer)
        if table.index("\n") <= width:
            return table
    longest = max(len(row["row"]) for row in rows)
    room = longest - (table.index("\n") - width)
    cut = [_cut_middle(row["row"], room) for row in rows]
    if room >= LEAST_NAME and len(set(cut)) == len(cut):
        return markdown([{**row, "row": name} for row, name in zip(fewer, cut)])
    return in_width(rows, width)


def _cut_middle(name: str, letters: int) -> str:
    head = letters // 2
    return name if len(name) <= letters else f"{name[:head]}…{name[len(name) - (letters - 1 - head) :]}"


def _row(of: MeasureStatistics, name: str, baseline: str | None, measure: str, write: Callable[[str], str]) -> Row:
    row = of.row(name)
    bounds = "none" if row.interval is None else f"{row.interval[0]:.3f} to {row.interval[1]:.3f}"
    cells = {"row": write(name), "seeds": str(row.seeds), measure: f"{row.mean:.4f}", "interval": bounds}
    if baseline is None or not of.pairs:
        return cells
    pair = of.pair(name, baseline)
    if pair is None:
        return cells | {"difference": "", "p": "", "finding": "baseline" if name == baseline else ""}
    bold = "**" if pair.finding == "better" and write is escape_markdown else ""
    return cells | {
        "difference": f"{pair.difference:+.4f}",
        "p": write_p(pair.p_corrected),
        "finding": f"{bold}{pair.finding}{bold}",
    }


def _pair(pair: PairStatistics, write: Callable[[str], str]) -> Row:
    return {
        "row": write(pair.row),
        "against": write(pair.baseline),
        "difference": f"{pair.difference:+.4f}",
        "p": write_p(pair.p_corrected),
        "finding": pair.finding,
    }


def write_p(p: float) -> str:
    """Return a p to four decimals, bounded below; a dash where there is none.

    >>> write_p(0.03125), write_p(1e-6), write_p(float("nan"))
    ('0.0312', '<0.0001', '-')
    """
    if p != p:
        return "-"
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


def _wrap(sentence: str, width: int | None) -> str:
    return sentence if width is None else textwrap.fill(sentence, width, break_long_words=False, break_on_hyphens=False)
