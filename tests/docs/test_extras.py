"""Every extra that a user may install stands where a user reads what to install."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOR_BUILDERS = {"test", "docs", "demo"}
EXTRAS = sorted(
    set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]) - FOR_BUILDERS
)


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_a_page_of_installing_names_every_extra(page):
    text = (ROOT / page).read_text().partition("A first result")[0]
    assert [extra for extra in EXTRAS if not re.search(f"`{extra}`", text)] == []
