"""What data-parallel processes must agree on beyond gradients, which their wrapper averages."""

import torch
from torch import Tensor, distributed


def is_distributed() -> bool:
    """Return whether this process is one of a ``torch.distributed`` group, of any size."""
    return distributed.is_available() and distributed.is_initialized()


@torch.no_grad()
def sum_over_replicas(values: Tensor) -> Tensor:
    """Return the sum of ``values`` over all processes, which must all call this; ``values`` itself where alone.

    >>> sum_over_replicas(torch.ones(2)).tolist()
    [1.0, 1.0]
    """
    if not is_distributed() or distributed.get_world_size() == 1:
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total
