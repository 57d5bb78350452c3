"""An evaluation as rows and as Markdown text."""

import textwrap
from collections.abc import Sequence

from lorank.ranking.metrics.evaluation import Comparison, Evaluation

Row = dict[str, str]


def system_rows(evaluation: Evaluation) -> list[Row]:
    """Return one row a system: each measure's mean with its interval, judged share, and the ceilings."""
    rows = []
    for name, system in evaluation.systems.items():
        row = {"system": name}
        for measure in evaluation.measures:
            low, high = system.interval[measure]
            row[measure] = f"{system.mean[measure]:.4f} [{low:.4f}, {high:.4f}]"
        row["judged@10"] = f"{system.judged:.1%}"
        row["recall ceiling"] = f"{evaluation.ceiling[name]:.4f}" if name in evaluation.ceiling else ""
        best = evaluation.ceiling_ndcg10.get(name)
        row["nDCG@10 ceiling"] = "" if best is None else f"{best:.4f}"
        rows.append(row)
    return rows


def comparison_rows(evaluation: Evaluation, measure: str | None = None) -> list[Row]:
    """Return one row a paired comparison, of one measure or of all."""
    return [_comparison(c) for c in evaluation.comparisons if measure in (None, c.measure)]


def _comparison(c: Comparison) -> Row:
    return {
        "measure": c.measure,
        "system": c.system,
        "against": c.baseline,
        "difference": f"{c.difference:+.4f} [{c.interval[0]:+.4f}, {c.interval[1]:+.4f}]",
        "p": _p(c.p),
        "p (Holm)": _p(c.p_holm),
        "W/T/L": f"{c.wins}/{c.ties}/{c.losses}",
    }


def _add_heads(rows: Sequence[Row], width: int | None) -> list[Row]:
    """Return comparisons for records: what is compared becomes the head of the block where the table does not fit."""
    if width is None or max(map(len, markdown(rows).split("\n"))) <= width:
        return list(rows)
    named = ("measure", "system", "against")
    return [
        {"": f"{row['measure']}: {row['system']} against {row['against']}"}
        | {key: value for key, value in row.items() if key not in named}
        for row in rows
    ]


def _p(value: float) -> str:
    return "<0.0001" if value < 1e-4 else f"{value:.4f}"


def markdown(rows: Sequence[Row]) -> str:
    """Return rows as an aligned Markdown table, first column to the left, the others to the right.

    >>> print(markdown([{"system": "bm25", "RR": "0.5"}, {"system": "tuned", "RR": "0.75"}]))
    | system |   RR |
    |:-------|-----:|
    | bm25   |  0.5 |
    | tuned  | 0.75 |
    """
    if not rows:
        return ""
    columns = list(rows[0])
    width = {c: max(len(c), *(len(row[c]) for row in rows)) for c in columns}

    def line(cells: Row) -> str:
        padded = (cells[c].ljust(width[c]) if c == columns[0] else cells[c].rjust(width[c]) for c in columns)
        return "| " + " | ".join(padded) + " |"

    rule = "|".join(":" + "-" * (width[c] + 1) if c == columns[0] else "-" * (width[c] + 1) + ":" for c in columns)
    return "\n".join([line({c: c for c in columns}), f"|{rule}|", *map(line, rows)])


def records(rows: Sequence[Row]) -> str:
    """Return rows as blocks of lines, the first column as a block's head, for terminals that no table fits in.

    >>> print(records([{"system": "bm25", "RR": "0.5", "nDCG@10": "0.25"}]))
    bm25
      RR       0.5
      nDCG@10  0.25
    """
    blocks = []
    for row in rows:
        head, *rest = row.items()
        width = max((len(name) for name, _ in rest), default=0)
        blocks.append("\n".join([head[1], *(f"  {name:{width}}  {value}" for name, value in rest if value)]))
    return "\n".join(blocks)


def in_width(rows: Sequence[Row], width: int | None) -> str:
    """Return rows as a Markdown table where it fits in ``width`` columns, else as records."""
    table = markdown(rows)
    if width is None or max(map(len, table.split("\n"))) <= width:
        return table
    return records(rows)


def to_markdown(evaluation: Evaluation, width: int | None = None) -> str:
    """Return the whole evaluation as Markdown: what was judged, the systems, the comparisons, the settings.

    Where a table is wider than ``width`` columns its rows are written as blocks of lines, and sentences are wrapped.
    """
    title = " ".join(part for part in (evaluation.collection, evaluation.split) if part)
    groups = evaluation.settings.get("groups")
    counted = f"{evaluation.queries} queries" + ("" if groups is None else f" in {groups} independent groups")
    head = f"{title}: {counted}" if title else counted
    parts = [
        head if width is None else textwrap.fill(head, width, break_long_words=False, break_on_hyphens=False),
        in_width(system_rows(evaluation), width),
    ]
    if evaluation.comparisons:
        parts.append(in_width(_add_heads(comparison_rows(evaluation), width), width))
    parts += [note if width is None else textwrap.fill(note, width) for note in notes(evaluation)]
    return "\n\n".join(parts) + "\n"


def notes(evaluation: Evaluation) -> list[str]:
    """Return the sentences that a reader of the tables needs: intervals, test, gain, queries that count 0."""
    said = evaluation.settings
    lines = []
    if "confidence" in said:
        lines.append(
            f"Brackets: {said['confidence']:.0%} {said['interval']} bootstrap interval over queries "
            f"({said['resamples']} resamples, seed {said['seed']}). p: paired {said['test']} test, "
            f"two-sided. Correction: {said['correction']}."
        )
    if said.get("groups") == evaluation.queries:
        lines.append(f"No two of the {evaluation.queries} queries share a relevant document.")
    elif "groups" in said:
        lines.append(
            f"The {evaluation.queries} queries form {said['groups']} groups, which are resampled and tested as wholes."
        )
    lines += [f"Gain of {measure}: {gain}." for measure, gain in said.get("gain", {}).items()]
    lines += [
        f"{name}: {count} of {evaluation.queries} queries have no results and count 0."
        for name, count in said.get("queries_without_results", {}).items()
    ]
    return lines
