r"""LEGEND's planner: how many blocks each device adapts, and the ranks of the blocks.

A device of relative speed v that adapts the last d of L blocks takes

    t(d) = (1 + 2 d / L) / v

for a step, in units of a forward pass on a device of speed 1: the backward pass costs twice the forward pass, and
only goes through blocks that are adapted. Its memory holds at most ``most`` blocks. Each device gets the largest
depth whose time is within the limit; the limit is the time of the slowest device at depth 1, or, where it is longer,
the shortest time at which any device has the full depth. So rounds end together: nobody waits for the slowest at full
depth.

Ranks rise by even steps from the input to the output:

    r_l = round(low + (high - low) l / (L - 1)),    l = 0 .. L - 1

Liu et al., Adaptive Parameter-Efficient Federated Fine-Tuning on Heterogeneous Devices, 2024, arXiv:2412.20004.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorank.errors import UsageError

BLOCK = re.compile(r"(?:^|\.)(\d+)(?:\.|$)")


@dataclass(frozen=True)
class Device:
    """What a client trains on.

    Attributes:
        speed: Its speed relative to the others', above 0.
        most: How many adapted blocks its memory holds, 1 or more; None for all.
    """

    speed: float = 1.0
    most: int | None = None

    def __post_init__(self) -> None:
        if not self.speed > 0 or (self.most is not None and self.most < 1):
            raise UsageError(f"a device of speed {self.speed:g} and {self.most} blocks; give numbers above 0")

    def time(self, depth: int, blocks: int) -> float:
        """Return t(d), the time of a step that adapts the last ``depth`` of ``blocks`` blocks.

        >>> Device(speed=0.5).time(6, 12)
        4.0
        """
        return (1 + 2 * depth / blocks) / self.speed


def plan_depths(devices: Mapping[str, Device], blocks: int, limit: float | None = None) -> dict[str, int]:
    """Return how many blocks, counted from the output, each device adapts.

    Args:
        devices: The devices by the names of their clients.
        blocks: The number of blocks of the model, 1 or more.
        limit: The longest time of a step; None finds one as the module says.

    Raises:
        UsageError: If a device cannot adapt even one block within the limit.

    >>> plan_depths({"a": Device(1.0), "b": Device(0.5), "c": Device(1.0, most=3)}, 12)
    {'a': 12, 'b': 3, 'c': 3}
    """
    depths = {name: min(device.most or blocks, blocks) for name, device in devices.items()}
    if limit is None:
        slowest = max(device.time(1, blocks) for device in devices.values())
        whole = [device.time(blocks, blocks) for name, device in devices.items() if depths[name] == blocks]
        limit = max([slowest, *([min(whole)] if whole else [])])
    planned = {}
    for name, device in devices.items():
        fitting = [d for d in range(1, depths[name] + 1) if device.time(d, blocks) <= limit * (1 + 1e-9)]
        if not fitting:
            raise UsageError(
                f"device {name} needs {device.time(1, blocks):.3g} for one block, the limit is {limit:.3g}"
            )
        planned[name] = fitting[-1]
    return planned


def rising_ranks(blocks: int, low: int, high: int) -> list[int]:
    """Return the ranks of the blocks, from the input to the output.

    >>> rising_ranks(5, 4, 12)
    [4, 6, 8, 10, 12]
    """
    if not 1 <= low <= high:
        raise UsageError(f"ranks from {low} to {high}: give 1 or more, rising")
    return [round(low + (high - low) * place / max(blocks - 1, 1)) for place in range(blocks)]


def block_of(path: str) -> int | None:
    """Return the number of the block that a layer lies in, None where its path has none.

    >>> block_of("encoder.layer.3.attention.self.query"), block_of("pooler.dense")
    (3, None)
    """
    found = BLOCK.search(path)
    return int(found.group(1)) if found else None


def layer_ranks(layers: Sequence[str], depth: int, low: int, high: int) -> dict[str, int]:
    """Return the rank of each layer on a device of ``depth``; 0 for layers that it does not adapt.

    Layers outside all blocks, which mostly follow the last one, count to the last.

    >>> layer_ranks(["layer.0.q", "layer.1.q", "pooler"], 1, 2, 4)
    {'layer.0.q': 0, 'layer.1.q': 4, 'pooler': 4}
    """
    numbers = sorted({number for path in layers if (number := block_of(path)) is not None}) or [0]
    ranks = rising_ranks(len(numbers), low, high)
    place = {number: at for at, number in enumerate(numbers)}
    found = {}
    for path in layers:
        number = block_of(path)
        at = len(numbers) - 1 if number is None else place[number]
        found[path] = ranks[at] if at >= len(numbers) - depth else 0
    return found
