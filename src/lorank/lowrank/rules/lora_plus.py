r"""LoRA+: B learns faster than A.

    eta_B = lambda eta_A,    lambda > 1, about 16

In a network of width n trained by Adam both factors move the features by Theta(1) only where
eta_A = Theta(1 / n) and eta_B = Theta(1).

Hayou, Ghosh, Yu, LoRA+: Efficient Low Rank Adaptation of Large Models, 2024, arXiv:2402.12354.

*Deviations*: the published code can give embeddings a rate of their own and B no weight decay; here one rate
is multiplied and nothing else changes.
"""

from dataclasses import dataclass

import torch

from lorank.catalogue import catalogued
from lorank.lowrank.adapter import Adapter
from lorank.lowrank.rules.rule import Groups, Rates, Rule, needed_pairs, rule


@rule("lora-plus")
@catalogued("lora-plus", area="adapters.optim", title="LoRA+: Efficient Low Rank Adaptation of Large Models")
@dataclass
class LoRAPlus(Rule):
    """AdamW with B's rate ``ratio`` times that of A and of all else.

    State: ``2 * r * (out + width)`` values a pair.
    """

    lr = 0.0002
    ratio: float = 16.0

    def optimizer(self, groups: Groups, adapter: Adapter, rates: Rates) -> torch.optim.Optimizer:
        fast = {id(pair.B) for pair in needed_pairs(adapter, "lora-plus")}
        split: Groups = []
        for group in groups:
            others = [p for p in group["params"] if id(p) not in fast]
            factors = [p for p in group["params"] if id(p) in fast]
            if others:
                split.append(group | {"params": others})
            if factors:
                split.append(group | {"params": factors, "lr": self.ratio * group.get("lr", rates.lr)})
        return torch.optim.AdamW(split, **rates.defaults())
