"""The model that all clients share, written as any tuned ranker is, from the server's messages alone."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from lorank import lowrank
from lorank.data.collection import Collection
from lorank.errors import LorankError
from lorank.federated.layout import Layout, layers_with
from lorank.federated.messages import Message
from lorank.federated.server import WHOLE_DOWN, WHOLE_UP, Server
from lorank.lowrank.algebra.factors import add
from lorank.lowrank.algebra.sets import attach_factors, factors_of, heads_of
from lorank.lowrank.forms.form import Factors
from lorank.lowrank.presets import preset
from lorank.lowrank.starts import start_named
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.open_recipe import open_recipe_base
from lorank.training.recipe import RecipeFile
from lorank.training.weights import AdapterWeights, new_modules, resolve_adapter
from lorank.tuned.ranker import TunedRanker

NO_DATA = Collection("no data", [], [], {})
"""What the base is opened for: texts, of which the server has none."""


def write_common_model(recipe: RecipeFile, server: Server, folder: Path) -> str | None:
    """Write the model of all clients; it scores alone, as the server has no documents to make a first stage of.

    Args:
        recipe: The recipe of the clients.
        server: The server after its last round.
        folder: The folder of the tuned ranker.

    Returns:
        Why there is no such model, None where it was written.
    """
    if server.aggregator.personal:
        return "each client keeps a part of its adapter, so there is no model of all"
    ranker = open_recipe_base(recipe, NO_DATA)
    assert isinstance(ranker, TrainableRanker)
    message = server.start | server.last
    heads = new_modules(ranker)
    if heads and not any(name.startswith(f"{head}.") for head in heads for name in message):
        return f"each client keeps its own {', '.join(heads)}, so there is no model of all"
    adapter = _attached(ranker, recipe, message)
    layout = Layout.of(adapter)
    adapter.load_state(server.aggregator.install(adapter.state(), message, layout))
    TunedRanker(ranker, _with_residual(ranker, adapter, server.whole, layout.scalings)).save(folder)
    return None


def _attached(ranker: TrainableRanker, recipe: RecipeFile, message: Message) -> lowrank.Adapter:
    """Return the recipe's adapter on the ranker, at the ranks that the message has."""
    settings = resolve_adapter(recipe.adapter, ranker)
    if start_named(settings.start or preset(settings.name).start).needs:
        settings = replace(settings, start="zero")  # the start's tensors are in the message
    ranks = None
    if layers_with(message, "A", "B"):
        every = lowrank.select_targets(ranker.module, settings.targets, settings.exclude, new_modules(ranker))
        ranks = {path: len(message[f"{path}.A"]) if f"{path}.A" in message else 0 for path in every}
    adapter = AdapterWeights(ranker, settings, recipe.seed, None, None, ranks).adapter
    if not adapter.layers:
        raise LorankError("the federation adapted no layer")
    return adapter


@torch.no_grad()
def _with_residual(
    ranker: TrainableRanker, adapter: lowrank.Adapter, whole: Message, scalings: Mapping[str, float]
) -> lowrank.Adapter:
    """Return the adapter with what was added to the base's weights as further ranks of it."""
    paths = layers_with(whole, WHOLE_UP, WHOLE_DOWN)
    if not paths:
        return adapter
    own, heads = factors_of(adapter), heads_of(adapter)
    for path in paths:
        more = Factors(whole[f"{path}.{WHOLE_DOWN}"], whole[f"{path}.{WHOLE_UP}"], scalings[path])
        own[path] = add(own[path], more)
    adapter.detach()
    return attach_factors(ranker.module, own, heads=heads)
