"""What every test may use: the shared data folder where it exists, and no network."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

pytest_plugins = [
    "chromium_browser",
    "planted_cascade",
    "tiny_causals",
    "tiny_collections",
    "tiny_encoders",
    "tiny_seq2seq",
]

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the shared development data is not at {SHARED_DATA}")
    return SHARED_DATA
