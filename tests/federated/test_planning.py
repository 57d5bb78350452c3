"""The planner of legend-fedft: every device within its limits, and rounds that end together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorank.errors import UsageError
from lorank.federated.planning import Device, layer_ranks, plan_depths, rising_ranks

devices = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.builds(Device, st.floats(0.05, 1.0), st.none() | st.integers(1, 14)),
    min_size=1,
    max_size=6,
)


@given(devices, st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_every_device_is_within_its_memory_and_waits_for_nobody(found: dict[str, Device], blocks: int) -> None:
    depths = plan_depths(found, blocks)
    times = {name: found[name].time(depth, blocks) for name, depth in depths.items()}
    slowest = max(device.time(1, blocks) for device in found.values())
    full = [d.time(blocks, blocks) for d in found.values() if d.most is None or d.most >= blocks]
    for name, depth in depths.items():
        assert 1 <= depth <= min(found[name].most or blocks, blocks)
        assert times[name] <= max(slowest, min(full, default=0.0)) * (1 + 1e-6)


def test_the_time_of_rounds_varies_less_than_at_full_depth() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        fleet = {str(i): Device(float(speed)) for i, speed in enumerate(rng.uniform(0.3, 1.0, 8))}
        depths = plan_depths(fleet, 12)
        planned = [fleet[name].time(depth, 12) for name, depth in depths.items()]
        uniform = [device.time(12, 12) for device in fleet.values()]
        assert np.var(planned) < 0.5 * np.var(uniform)
        assert max(planned) < max(uniform)


def test_a_limit_that_no_block_fits_is_refused() -> None:
    with pytest.raises(UsageError, match="needs 11\\.7 for one block"):
        plan_depths({"slow": Device(0.1)}, 12, limit=3.0)
    assert plan_depths({"slow": Device(0.5)}, 12, limit=4.0) == {"slow": 6}


def test_ranks_rise_toward_the_output_and_layers_below_the_depth_have_none() -> None:
    ranks = rising_ranks(6, 2, 12)
    assert ranks == [2, 4, 6, 8, 10, 12]
    paths = [f"encoder.layer.{i}.{name}" for i in range(6) for name in ("query", "dense")]
    found = layer_ranks(paths, 2, 2, 12)
    assert {path: rank for path, rank in found.items() if rank} == {
        "encoder.layer.4.query": 10,
        "encoder.layer.4.dense": 10,
        "encoder.layer.5.query": 12,
        "encoder.layer.5.dense": 12,
    }
