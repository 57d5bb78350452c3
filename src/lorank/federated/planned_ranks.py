"""The ranks that each client of a federation adapts at, for methods that plan them by device."""

from collections.abc import Callable, Mapping
from functools import partial

from lorank.errors import UsageError
from lorank.federated.aggregators import Aggregator
from lorank.federated.aggregators.legend_fedft import Legend
from lorank.federated.planning import Device, block_of, layer_ranks, plan_depths

ChooseRanks = Callable[[list[str]], dict[str, int]]


def planned_ranks(
    aggregator: Aggregator, client: str, clients: list[str], devices: Mapping[str, Device], rank: int
) -> ChooseRanks | None:
    """Return what chooses the ranks of a client's layers; None where the method leaves them to the recipe.

    Args:
        aggregator: The method.
        client: The client's name.
        clients: The names of all clients.
        devices: What they train on; one that is not named has speed 1 and room for all blocks.
        rank: The rank of the recipe, which is the mean of the rising ranks.

    Raises:
        UsageError: If devices are given to a method that plans nothing, or for a client that is not there.
    """
    strange = devices.keys() - set(clients)
    if strange:
        raise UsageError(f"--device {min(strange)}: no client is called so; the clients are {', '.join(clients)}")
    if not isinstance(aggregator, Legend):
        if devices:
            raise UsageError("--device: only --method legend-fedft plans by devices")
        return None
    low, high = aggregator.low or max(1, rank // 2), aggregator.high or rank + rank // 2
    fleet = {name: devices.get(name, Device()) for name in clients}
    return partial(_ranks_of, fleet=fleet, client=client, low=low, high=high)


def _ranks_of(layers: list[str], fleet: dict[str, Device], client: str, low: int, high: int) -> dict[str, int]:
    blocks = max(1, len({block_of(path) for path in layers} - {None}))
    return layer_ranks(layers, plan_depths(fleet, blocks)[client], low, high)
