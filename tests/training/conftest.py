"""What tests of whole runs share: a tiny base, and a cache of their own."""

from pathlib import Path

import pytest


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First-stage indexes are built anew, so that no test leans on what another left."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def bert(tiny_folders: dict[str, Path]) -> str:
    """The tiny BERT, as a base is named."""
    return str(tiny_folders["bert"])
