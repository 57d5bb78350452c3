"""Module paths of 0.1 still import, as the module that took their place."""

import importlib
import sys

import pytest

from lorank.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_path_is_the_new_module(old):
    sys.modules.pop(f"lorank.{old}", None)
    new = importlib.import_module(f"lorank.{MOVED[old]}")
    with pytest.warns(DeprecationWarning, match=f"lorank.{MOVED[old]}"):
        assert importlib.import_module(f"lorank.{old}") is new
    assert new.__name__ == new.__spec__.name == f"lorank.{MOVED[old]}"
