"""The records of a comparison as CSV, Parquet, LaTeX, Markdown and JSON."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lorank.compare.found_statistics import CollectionStatistics, RowStatistics
from lorank.compare.records import Record, pair_records, to_records
from lorank.compare.results import ExperimentResult
from lorank.compare.statistics import ExperimentStatistics
from lorank.ranking.metrics.corrections import CORRECTION_NAMES

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
}


def csv_cell(value: object) -> object:
    """Return a cell for CSV; a text that a spreadsheet would take for a formula gets an apostrophe in front.

    >>> csv_cell("=1+1"), csv_cell("lora"), csv_cell(-0.5), csv_cell(None)
    ("'=1+1", 'lora', -0.5, '')
    """
    if isinstance(value, str):
        value = value.replace("\x00", "")
        return "'" + value if value.startswith(_FORMULA) else value
    return "" if value is None else value


def to_csv(records: Sequence[Record]) -> str:
    """Return records as CSV with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    keys = list(dict.fromkeys(key for record in records for key in record))
    writer.writerow([csv_cell(key) for key in keys])
    writer.writerows([csv_cell(record.get(key)) for key in keys] for record in records)
    return text.getvalue()


def to_parquet(records: Sequence[Record]) -> bytes | None:
    """Return records as Parquet, with a column of doubles for each cost; None where pyarrow is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        return None
    keys = list(dict.fromkeys(key for record in records for key in record))
    columns = {key: _parquet_column([record.get(key) for record in records]) for key in keys}
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


def _parquet_column(values: Sequence[object]) -> Any:
    import pyarrow

    if all(value is None for value in values):
        return pyarrow.array([None] * len(values), pyarrow.float64())
    if any(isinstance(value, float) for value in values):
        return pyarrow.array([None if v is None else float(v) for v in values], pyarrow.float64())  # type: ignore[arg-type]
    return pyarrow.array(values)


def escape_latex(text: str) -> str:
    r"""Return a text for LaTeX.

    >>> print(escape_latex("a_b & 50% {x}"))
    a\_b \& 50\% \{x\}
    """
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def escape_markdown(text: str) -> str:
    r"""Return a text for a cell of a Markdown table.

    >>> print(escape_markdown("a|b <i>"))
    a\|b &lt;i&gt;
    """
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|])", r"\\\1", text)


def to_latex(result: ExperimentResult, found: ExperimentStatistics) -> str:
    """Return a booktabs table per collection; bold is a row that is better than the baseline by the corrected test."""
    title = escape_latex(result.name)
    parts = [f"% {' '.join(result.name.split())}; requires \\usepackage{{booktabs}}"]
    for collection in [*found.collections, *([found.mean] if found.mean else [])]:
        if collection.measures:
            parts.append(_latex_table(collection, result, title))
    return "\n\n".join(parts) + "\n"


def _latex_table(collection: CollectionStatistics, result: ExperimentResult, title: str) -> str:
    measures = list(collection.measures)
    first = collection.measures[measures[0]]
    compared = collection.baseline is not None
    heads = ["Row", *(escape_latex(m) for m in measures), *(["Difference", "$p$"] if compared else [])]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{title}: {escape_latex(collection.data)}. {_caption(collection, result)}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        r"\toprule",
        " & ".join(heads) + r" \\",
        r"\midrule",
    ]
    for row in first.rows:
        cells = [escape_latex(row.name), *(_latex_value(collection, m, row.name) for m in measures)]
        if compared:
            cells += _latex_difference(collection, measures[0], row)
        lines.append(" & ".join(cells) + r" \\")
    lines += [
        f"{escape_latex(name)} & \\multicolumn{{{len(heads) - 1}}}{{l}}{{failed}} \\\\" for name in collection.failed
    ]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _caption(collection: CollectionStatistics, result: ExperimentResult) -> str:
    settings = result.statistics
    said = f"{collection.queries} queries in {collection.groups} independent groups."
    if collection.baseline is None:
        return said
    return (
        f"{said} Differences are from {escape_latex(collection.baseline)}, with {100 * settings.confidence:g}\\% "
        f"intervals; $p$ is corrected by {CORRECTION_NAMES[settings.correction]}. Bold is better than it."
    )


def _latex_value(collection: CollectionStatistics, measure: str, name: str) -> str:
    of_measure = collection.measures[measure]
    pair = of_measure.pair(name, collection.baseline) if collection.baseline else None
    value = f"{of_measure.row(name).mean:.4f}"
    return rf"\textbf{{{value}}}" if pair is not None and pair.finding == "better" else value


def _latex_difference(collection: CollectionStatistics, measure: str, row: RowStatistics) -> list[str]:
    pair = collection.measures[measure].pair(row.name, collection.baseline or "")
    if pair is None:
        return ["--", "--"]
    bounds = "" if pair.interval is None else f" [{pair.interval[0]:+.4f}, {pair.interval[1]:+.4f}]"
    p = (
        "--"
        if pair.p_corrected != pair.p_corrected
        else "<0.0001"
        if pair.p_corrected < 1e-4
        else f"{pair.p_corrected:.4f}"
    )
    return [f"${pair.difference:+.4f}${bounds.replace('[', '$[').replace(']', ']$')}", f"${p}$" if "<" in p else p]


def to_json(result: ExperimentResult, found: ExperimentStatistics) -> dict[str, Any]:
    """Return the settings, the records, the pairs, what a reader must know, and how the experiment was made."""
    return {
        "experiment": result.name,
        "measures": list(result.measures),
        "baseline": result.baseline,
        "statistics": asdict(result.statistics),
        "made": dict(result.provenance),
        "collections": [
            {"name": c.data, "queries": c.queries, "groups": c.groups, "notes": list(c.notes), "failed": dict(c.failed)}
            for c in found.collections
        ],
        "rows": to_records(result, found),
        "pairs": pair_records(found, result.statistics.correction),
        "mean": None if found.mean is None else _mean(found.mean),
    }


def _mean(collection: CollectionStatistics) -> dict[str, Any]:
    return {
        "name": collection.data,
        "notes": list(collection.notes),
        "rows": [
            {"row": row.name, "measure": measure, "mean": row.mean, "interval": row.interval, "seeds": row.seeds}
            for measure, of_measure in collection.measures.items()
            for row in of_measure.rows
        ],
    }
