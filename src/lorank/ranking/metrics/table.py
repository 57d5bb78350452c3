"""An evaluation as rows and as Markdown text."""

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


def to_markdown(evaluation: Evaluation) -> str:
    """Return the whole evaluation as Markdown: what was judged, the systems, the comparisons, the settings."""
    title = " ".join(part for part in (evaluation.collection, evaluation.split) if part)
    groups = evaluation.settings.get("groups")
    counted = f"{evaluation.queries} queries" + ("" if groups is None else f" in {groups} independent groups")
    parts = [
        f"{title}: {counted}" if title else counted,
        markdown(system_rows(evaluation)),
    ]
    if evaluation.comparisons:
        parts.append(markdown(comparison_rows(evaluation)))
    parts += notes(evaluation)
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
    if "groups" in said:
        lines.append(
            f"The {evaluation.queries} queries form {said['groups']} groups, which are resampled and tested as wholes."
        )
    lines += [f"Gain of {measure}: {gain}." for measure, gain in said.get("gain", {}).items()]
    lines += [
        f"{name}: {count} of {evaluation.queries} queries have no results and count 0."
        for name, count in said.get("queries_without_results", {}).items()
    ]
    return lines
