"""The page of published models: every row has a test that exists, and every family a row."""

import re
from pathlib import Path

from lorank.ranking.scorers.families import NONE, OWN, families

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| Models |", "| What "))]
TESTS = ROOT / "tests" / "ranking" / "scorers"


def test_every_row_names_a_test_that_exists():
    assert len(ROWS) > 30
    for row in ROWS:
        file, test = re.findall(r"`(test_\w+\.py)::(test_\w+)`", row)[0]
        assert f"\ndef {test}(" in (TESTS / file).read_text(encoding="utf-8"), row


def test_every_family_has_a_row_and_every_row_a_family():
    replying = PAGE.split("## Rerankers that reply")[1].split("## Cross-encoders")[0]
    named = set(re.findall(r"\| `([a-z0-9.-]+)` \|", replying))
    refused = set(re.findall(r"\| `([a-z0-9.-]+)`:", PAGE))
    assert named | refused == {*families(), OWN, NONE}


def test_every_model_of_a_family_is_on_the_page():
    for family in families().values():
        for model in family.models:
            short = model.split("/")[1].lower()
            assert any(name in PAGE.lower() for name in (short, *family.names)), model
