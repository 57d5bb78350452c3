"""What every test may use: the shared data folder where it exists, and quiet single-threaded torch."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["OMP_NUM_THREADS"] = "1"  # processes that tests start sum in the same order as the test itself

import pytest
import torch

pytest_plugins = ["tiny_causals", "tiny_collections", "tiny_encoders"]

SHARED_DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data"

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The development data beside the checkout; tests that need it skip where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the shared development data is not at {SHARED_DATA}")
    return SHARED_DATA
