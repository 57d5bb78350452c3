"""One HTML file a run: everything inline, nothing loaded, readable without JavaScript and on paper."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

import lorank
from lorank.files import write_bytes
from lorank.reporting import numbers, sections
from lorank.reporting.continual_part import continual_section
from lorank.reporting.order_part import order_section
from lorank.reporting.run_folder import RunCard, RunFolder, read_run_folder
from lorank.reporting.spectra import spectra_part
from lorank.reporting.verdict import LEVEL, OUTCOME_WORDS, Verdict, verdict

TEMPLATES = Path(__file__).parent / "templates"

FILTERS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        numbers.decimal,
        numbers.signed_decimal,
        numbers.interval,
        numbers.p_value,
        numbers.count,
        numbers.percent,
        numbers.size,
        numbers.duration,
        numbers.moment,
        sections.cut,
    )
}


def write_report(folder: Path, out: Path | None = None) -> Path:
    """Write the report of a run folder as one HTML file and return its path.

    ``folder`` may hold results.json, metrics.jsonl, run.json, examples.json, queries.json, budget.jsonl, spectra.json
    and continual.json; each missing file makes its section disappear, a malformed one raises DataError. ``out``
    defaults to report.html in the folder; the file appears whole or not at all. The page's Content-Security-Policy
    forbids every request, and scripts and styles other than the page's own.
    """
    folder = Path(folder)
    out = folder / "report.html" if out is None else Path(out)
    page = render(read_run_folder(folder)).encode("utf-8", "replace")
    write_bytes(out, page)
    return out


def render(run_folder: RunFolder) -> str:
    """Return the page of a run folder as HTML text."""
    return make_environment().get_template("report.html").render(_context(run_folder))


def make_environment() -> jinja2.Environment:
    """Return the environment of the pages: what is written into them is escaped, a name that is missing is refused."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= FILTERS
    return environment


def _card_of(run_folder: RunFolder) -> RunCard:
    """Return the card of a folder without run.json: a stream has the command of all its stages."""
    stream = run_folder.continual
    return RunCard(command=None if stream is None else stream.command)


def _context(run_folder: RunFolder) -> dict[str, Any]:
    evaluation, run = run_folder.evaluation, run_folder.run or _card_of(run_folder)
    said = verdict(evaluation) if evaluation else None
    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "report.js"))
    return {
        "title": _title(run_folder),
        "verdict": said,
        "evaluation": evaluation,
        "run": run,
        "level": LEVEL,
        "version": lorank.__version__,
        "outcome_words": OUTCOME_WORDS,
        **_judge_sections(run_folder, said),
        "learning": sections.learning(run_folder.training, run.dev.name if run.dev else ""),
        "debiased": sections.debiased(run.debias),
        "trained": sections.trained_part(run),
        "rank_budget": sections.rank_budget(run_folder.budget),
        "spectra": spectra_part(run_folder.spectra),
        "mixing": sections.mixing(run.mix, run.dev.name if run.dev else ""),
        "order": order_section(run_folder.agreement, run_folder.shrunk),
        "continual": continual_section(run_folder.continual),
        "examples": sections.side_by_side(run_folder.examples),
        "examples_in_all": len(run_folder.examples),
        "settings": sections.flatten_settings(run.settings),
        "machine": sections.flatten_settings(run.machine),
        "card_letters": sections.CARD_LETTERS,
        "style": Markup(style),
        "script": Markup(script),
        "style_hash": source_hash(style),
        "script_hash": source_hash(script),
    }


def _judge_sections(run_folder: RunFolder, said: Verdict | None) -> dict[str, Any]:
    evaluation = run_folder.evaluation
    if evaluation is None or said is None:
        return {"ladder": None, "comparisons": None, "changes": None}
    return {
        "ladder": sections.ladder(evaluation, said, run_folder.run),
        "comparisons": sections.comparisons(evaluation, said) if evaluation.comparisons else None,
        "changes": sections.changes(evaluation, said, run_folder.queries),
    }


def _title(run_folder: RunFolder) -> str:
    card = run_folder.run.collection if run_folder.run else None
    judged = run_folder.evaluation.collection if run_folder.evaluation else ""
    name = judged or (card.name if card else "")
    return f"Ranking {name}" if name else f"Run {run_folder.path.resolve().name}"


def source_hash(content: str) -> str:
    """Return the source expression by which a Content-Security-Policy admits exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
