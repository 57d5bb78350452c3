"""A small model with layers of unlike shape, and training against a linear teacher."""

import torch
from torch import nn

from lorank.lowrank.factored import make_factored


class Small(nn.Module):
    """Two linear layers of unlike shape, one without a bias, with a head and an embedding beside them."""

    def __init__(self, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.table = nn.Embedding(11, 24)
            self.wide = nn.Linear(24, 40)
            self.narrow = nn.Linear(40, 16, bias=False)
            self.norm = nn.LayerNorm(16)
            self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(self.norm(self.narrow(torch.tanh(self.wide(x)))))


LAYERS = ["wide", "narrow"]


def fit_teacher(layer_of, teacher, *, steps=400, lr=0.02, **options):
    """The final squared distance to ``teacher`` of a layer trained on it, with its events: inputs are isotropic."""
    model = nn.Sequential(layer_of())
    made = make_factored(model, targets="0", **options)
    optimizer = made.optimizer(lr=lr)
    (layer,) = made.layers.values()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        loss = (layer.dense() - teacher).square().sum() / teacher.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        made.after_step(step + 1, steps, optimizer)
    return float((layer.dense() - teacher).square().sum() / teacher.square().sum()), layer


def linear(weight):
    """An ``nn.Linear`` without bias of a given weight."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight.data = weight.clone()
    return layer
