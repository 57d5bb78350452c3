"""The fixed plan: as many replies for each prompt, all of them kept, as GRPO and RLOO sample."""

from collections.abc import Sequence

import torch

from lorank.ranking.policies.plans.registry import Draw, Kept, SamplingPlan, sampling_plan


@sampling_plan("fixed")
class Fixed(SamplingPlan):
    """Draw ``samples`` replies for every prompt.

    >>> Fixed(2).sample([7, 9], lambda places: torch.zeros(len(places)), torch.Generator()).replies
    [0, 1, 2, 3]
    """

    def sample(self, prompts: Sequence[int], draw: Draw, generator: torch.Generator) -> Kept:
        """Draw them all at once.

        Args:
            prompts: A number for each prompt of the step.
            draw: Draws a reply for each place, and returns their rewards.
            generator: Not used.
        """
        places = [place for place in range(len(prompts)) for _ in range(self.samples)]
        draw(places)
        return Kept(list(range(len(places))))
