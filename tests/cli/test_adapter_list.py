"""lorank adapter list: every adapter with its axes, and docs/adapters.md is what it prints.

lora-review shows: its page links each family that it cites to registered methods.
"""

import json
import re
import sys
from pathlib import Path

import pytest

from lorank import index
from lorank.cli import main
from lorank.cli.adapter_list import page
from lorank.lowrank import FORMS, PRESETS, families
from lorank.lowrank.forms.form import ROUTED

DOCS = Path(__file__).parents[2] / "docs"


def run(capsys, *arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["lorank", "adapter", "list", *arguments])
        with pytest.raises(SystemExit) as left:
            main()
    captured = capsys.readouterr()
    return left.value.code or 0, captured.out, captured.err


def test_every_adapter_is_listed_with_its_axes(capsys):
    code, out, _ = run(capsys, "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert code == 0
    assert rows.keys() == {*PRESETS, *FORMS, *ROUTED}
    assert rows["pissa"]["axes"] == ["initialization"]
    code, out, _ = run(capsys, "--axis", "experts")
    names = [line.split()[0] for line in out.splitlines()[1:]]
    assert names == [name for name, row in rows.items() if "experts" in row["axes"]]
    code, _, err = run(capsys, "--axis", "expert")
    assert (code, "experts" in err) == (2, True)
    code, _, err = run(capsys, "--axis", "experts", "--markdown")
    assert (code, "whole page" in err) == (2, True)


def test_the_page_in_the_docs_is_the_one_that_is_printed():
    text = (DOCS / "adapters.md").read_text(encoding="utf-8")
    assert text == page(), "write it again: lorank adapter list --markdown > docs/adapters.md"


def test_lora_review_every_family_on_the_page_links_to_registered_methods():
    text = page()
    lines = {line.split(" | ")[0].removeprefix("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert len(families()) >= 12
    for family in families():
        linked = dict(re.findall(r"\[([^]]+)\]\(([^)]+)\)", lines[family.name]))
        assert set(linked) == set(family.methods)
        assert linked.keys() <= {method.id for method in index.methods()}
        assert all((DOCS / target).is_file() for target in linked.values())
