"""The fixed number: as many steps on every draw, as PPO and GRPO take them."""

import torch

from lorank.ranking.policies.reuse.registry import DataReuse, data_reuse


@data_reuse("fixed")
class Fixed(DataReuse):
    """Take ``updates`` steps on every draw.

    >>> Fixed(2).choose(torch.Generator())
    2
    """

    def choose(self, generator: torch.Generator) -> int:
        """Return ``updates``.

        Args:
            generator: Not used.
        """
        return self.updates
