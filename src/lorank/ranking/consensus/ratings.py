"""Online ratings of Weng and Lin (2011, JMLR 12), by the openskill package.

Every ballot is a match whose places are the ballot's levels, played in the order of the ballots; an item's rating
is a normal distribution (mu, sigma) that each match moves towards its result and narrows. The score is mu - z sigma
(openskill's ``ordinal``): what the item is worth almost surely. Joshy 2024, OpenSkill, arXiv 2401.05451.

Ratings depend on the order of matches. Weights that are whole numbers repeat a ballot.
"""

from typing import Any, Literal

import numpy as np

from lorank.catalogue import catalogued
from lorank.errors import LorankError, UsageError, unknown_name
from lorank.ranking.consensus.profile import Floats, Profile
from lorank.ranking.consensus.rules import rule

Model = Literal[
    "plackett-luce", "bradley-terry-full", "bradley-terry-part", "thurstone-mosteller-full", "thurstone-mosteller-part"
]
MODELS: dict[str, str] = {
    "plackett-luce": "PlackettLuce",
    "bradley-terry-full": "BradleyTerryFull",
    "bradley-terry-part": "BradleyTerryPart",
    "thurstone-mosteller-full": "ThurstoneMostellerFull",
    "thurstone-mosteller-part": "ThurstoneMostellerPart",
}


@rule("openskill", on_unit_scale=True)
@catalogued("openskill", area="aggregate", title="OpenSkill: A faster asymmetric multi-team, multiplayer rating system")
def openskill(profile: Profile, *, model: Model = "plackett-luce", z: float = 3.0) -> Floats:
    """Return mu - z sigma after all matches, float64 [items]; the model's defaults start at mu 25, sigma 25 / 3.

    Raises:
        LorankError: The package is not installed.
        UsageError: An unknown model, or weights that are not whole numbers.
    """
    ratings = rate(profile, model=model)
    return ratings[:, 0] - z * ratings[:, 1]


def rate(profile: Profile, *, model: Model = "plackett-luce") -> Floats:
    """Return every item's mu and sigma after all matches, float64 [items, 2]."""
    game = _model(model)()
    repeats = profile.weight.astype(np.int64)
    if (repeats != profile.weight).any():
        raise UsageError("openskill plays whole matches; give ballots weights that are whole numbers")
    players = [game.rating() for _ in profile.items]
    begins = np.concatenate([[0], np.cumsum(profile.sizes())])
    items, levels = profile.item.tolist(), profile.level.tolist()
    for match, times in enumerate(repeats.tolist()):
        rows = slice(begins[match], begins[match + 1])
        here = items[rows]
        for _ in range(times if len(here) > 1 else 0):
            after = game.rate([[players[item]] for item in here], ranks=[float(level) for level in levels[rows]])
            for item, (player,) in zip(here, after, strict=True):
                players[item] = player
    return np.array([[player.mu, player.sigma] for player in players])


def _model(name: str) -> Any:
    if name not in MODELS:
        raise unknown_name("openskill model", name, MODELS)
    try:
        from openskill import models
    except ImportError as error:
        raise LorankError("openskill ratings need the openskill package: pip install 'lorank[ratings]'") from error
    return getattr(models, MODELS[name])
