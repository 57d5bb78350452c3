"""fedlora-survey: every listed strategy is an aggregator, or is called not yet; the page has the table."""

from pathlib import Path

from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.federated import AGGREGATORS
from lorank.federated.survey import NOT_YET, STRATEGIES, survey_table

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "federate.md"


def test_every_strategy_is_an_aggregator_or_not_yet() -> None:
    assert len({each.name for each in STRATEGIES}) == len(STRATEGIES) >= 35
    assert {each.method for each in STRATEGIES if each.method} <= AGGREGATORS.keys()
    rows = survey_table().splitlines()[2:]
    for each, row in zip(STRATEGIES, rows, strict=True):
        assert each.how
        assert (f"`{each.method}`" if each.method else NOT_YET) in row


def test_the_page_and_the_command_have_the_table() -> None:
    assert survey_table() in PAGE.read_text(encoding="utf-8")
    assert CliRunner().invoke(app, ["federate", "strategies"]).stdout.strip() == survey_table()


def test_the_page_names_every_method() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in AGGREGATORS)
