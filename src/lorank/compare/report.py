"""Write what an experiment found: one page, tables for papers and programs, and a summary for the terminal."""

from pathlib import Path

from lorank.compare.exports import to_csv, to_json, to_latex, to_parquet
from lorank.compare.page import render_comparison
from lorank.compare.records import to_records
from lorank.compare.results import ExperimentResult
from lorank.compare.statistics import compute_statistics
from lorank.compare.summary import write_summary
from lorank.files import write_bytes, write_json, write_text

PAGE = "index.html"


def write_comparison(result: ExperimentResult, folder: Path) -> Path:
    """Write the comparison into a folder and return the path of its page.

    index.html is complete in itself and loads nothing; results.csv, results.parquet (where pyarrow is installed),
    results.tex (booktabs), results.md and statistics.json hold the same numbers. Each file appears whole or not at
    all, the page last; other files of the folder stay.

    Args:
        result: The experiment.
        folder: The folder, which is made where it is missing.

    Raises:
        UsageError: for values that cannot be compared, before anything is written.
    """
    folder = Path(folder)
    found = compute_statistics(result)
    records = to_records(result, found)
    page = render_comparison(result, found).encode("utf-8", "replace")
    write_text(folder / "results.csv", to_csv(records))
    parquet = to_parquet(records)
    if parquet is None:
        (folder / "results.parquet").unlink(missing_ok=True)
    else:
        write_bytes(folder / "results.parquet", parquet)
    write_text(folder / "results.tex", to_latex(result, found))
    write_text(folder / "results.md", write_summary(result, found, width=None))
    write_json(folder / "statistics.json", to_json(result, found))
    write_bytes(folder / PAGE, page)
    return folder / PAGE


def summary(result: ExperimentResult, width: int | None = 80) -> str:
    """Return the comparison for a terminal of ``width`` columns, as Markdown whose wide tables are blocks of lines.

    Args:
        result: The experiment.
        width: The width in letters; None leaves the tables as wide as they are.

    Raises:
        UsageError: for values that cannot be compared.
    """
    return write_summary(result, compute_statistics(result), width, write=lambda name: " ".join(name.split()))
