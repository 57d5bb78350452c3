"""Where random numbers come from: a generator for each matrix and count, so that a resumed run draws the same."""

import torch

PRIME = 1_000_003


def generator_of(seed: int, place: int, count: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of the ``count``-th draw for the parameter at ``place``.

    >>> [int(torch.randint(99, (1,), generator=generator_of(0, 3, 1))) for _ in range(2)][0] < 99
    True
    """
    number = ((seed * PRIME + place + 1) * PRIME + count + 1) % (2**63 - 1)
    return torch.Generator(device=device).manual_seed(number)
