"""The page of an experiment: one HTML file, everything inline, nothing loaded."""

from dataclasses import asdict

from markupsafe import Markup

import lorank
from lorank.compare.page_parts import prepare_part
from lorank.compare.results import ExperimentResult
from lorank.compare.statistics import ExperimentStatistics
from lorank.compare.summary import explain_tests
from lorank.ranking.metrics.corrections import CORRECTION_NAMES
from lorank.reporting.comparison_charts import MOST_FIGURES
from lorank.reporting.page import TEMPLATES, make_environment, source_hash
from lorank.reporting.sections import flatten_settings


def render_comparison(result: ExperimentResult, found: ExperimentStatistics) -> str:
    """Return the page of an experiment as HTML text.

    Args:
        result: The experiment.
        found: Its statistics.
    """
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("report.css", "comparison.css"))
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    shown = [*found.collections, *([found.mean] if found.mean else [])]
    return (
        make_environment()
        .get_template("comparison.html")
        .render(
            name=result.name,
            version=lorank.__version__,
            parts=[prepare_part(result, collection, k) for k, collection in enumerate(shown)],
            settings=result.statistics,
            settings_rows=flatten_settings(asdict(result.statistics)),
            correction=CORRECTION_NAMES[result.statistics.correction],
            explained=explain_tests(result.statistics),
            most_figures=MOST_FIGURES,
            made=_Made(result.provenance),
            made_rows=flatten_settings({k: v for k, v in result.provenance.items() if k != "command"}),
            source=result.source,
            commands=[(row.data, row.name, row.command) for row in result.rows if row.command],
            style=Markup(style),
            script=Markup(script),
            style_hash=source_hash(style),
            script_hash=source_hash(script),
        )
    )


class _Made(dict[str, str]):
    """How the experiment was made; what it does not say is empty."""

    def __missing__(self, key: str) -> str:
        return ""
