"""House words stay out of names and docstrings, but for what a shrinking list allows."""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parents[2] / "tools" / "check_words.py"


@pytest.fixture
def lint():
    spec = importlib.util.spec_from_file_location("check_words", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_no_file_has_more_house_words_than_it_is_allowed(lint):
    assert lint.excess() == []


def test_names_and_docstrings_are_read_and_messages_are_not(lint, tmp_path):
    file = tmp_path / "one.py"
    file.write_text(
        '"""The bank wants more."""\nclass WaitingRoom:\n    """What is told."""\n    def f(self, shelf_size):\n'
        '        self.listeners = "wants wants"\n        raise ValueError("told")\n'
    )
    found = {lint.INSTEAD[word]: count for word, count in lint.counts(file).items()}
    assert sorted(found.values()) == [1] * 6
    assert lint._HOUSE.keys() >= lint.counts(file).keys()


def test_a_server_may_listen_on_a_port(lint, tmp_path):
    file = tmp_path / "serving" / "one.py"
    file.parent.mkdir()
    file.write_text('"""The server listens on a port."""\n')
    assert lint.counts(file) == Counter()


def test_the_list_shrinks_and_never_grows(lint, tmp_path, monkeypatch):
    monkeypatch.setattr(lint, "ALLOWED", tmp_path / "allowed.json")
    word = next(iter(lint.INSTEAD))
    lint.ALLOWED.write_text(json.dumps({"a.py": {word: 3}, "gone.py": {word: 1}}))
    monkeypatch.setattr(lint, "everything", lambda: {"a.py": Counter({word: 2}), "new.py": Counter({word: 1})})
    assert len(lint.excess()) == 1
    lint.shrink()
    assert json.loads(lint.ALLOWED.read_text()) == {"a.py": {word: 2}}
