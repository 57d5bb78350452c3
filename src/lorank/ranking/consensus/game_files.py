"""Files of games by prompt: CSV or tab-separated lines of ``prompt,a,b,outcome``, for the open-ended game.

The outcome is as in a file of duels: 1, a, model_a or left where a won, 0, b, model_b or right where b won, and 0.5,
tie or draw where nobody did. Games of the same two models on the same prompt are averaged:

    u[p, i, j] = mean over games of 2 outcome - 1,        u[p, j, i] = -u[p, i, j]
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lorank.errors import DataError
from lorank.ranking.consensus.duel_files import read_duel
from lorank.ranking.consensus.profile import Floats
from lorank.ranking.consensus.reading import csv_rows

COLUMNS = "a game is prompt,a,b,outcome"


@dataclass(frozen=True, eq=False)
class Games:
    """The ``prompts``, the ``models``, and how much ``better`` [prompts, models, models] each is than each other."""

    prompts: tuple[str, ...]
    models: tuple[str, ...]
    better: Floats


def read_games(path: str | Path) -> Games:
    """Return the table of a file of games, in the order in which prompts and models first appear.

    Raises:
        DataError: With file and line, for another number of columns, an unknown outcome or a model against itself;
            without one, for a file without games, or where two models did not meet on a prompt.
    """
    games: list[tuple[str, str, str, float]] = []
    for number, (line, fields) in enumerate(csv_rows(path)):
        row = [field.strip() for field in fields]
        if not any(row):
            continue
        if len(row) != 4 or not row[0]:
            raise DataError(path, line, f"{len(row)} columns" if row[0] else "the prompt is empty", COLUMNS)
        if number == 0 and row[0].lower() == "prompt":
            continue
        games.append((row[0], *read_duel(path, line, row[1:])))
    if not games:
        raise DataError(path, None, "the file holds no games", COLUMNS)
    prompts = tuple(dict.fromkeys(prompt for prompt, *_ in games))
    models = tuple(dict.fromkeys(model for _, a, b, _ in games for model in (a, b)))
    return Games(prompts, models, _table(path, games, prompts, models))


def _table(
    path: str | Path, games: list[tuple[str, str, str, float]], prompts: tuple[str, ...], models: tuple[str, ...]
) -> Floats:
    """Return u float64 [prompts, models, models], antisymmetric in the models."""
    prompt_at, model_at = ({name: i for i, name in enumerate(names)} for names in (prompts, models))
    total = np.zeros((len(prompts), len(models), len(models)))
    count = np.zeros_like(total)
    for prompt, a, b, outcome in games:
        p, i, j = prompt_at[prompt], model_at[a], model_at[b]
        total[p, i, j] += 2 * outcome - 1
        total[p, j, i] -= 2 * outcome - 1
        count[p, i, j] += 1
        count[p, j, i] += 1
    for p, i, j in np.argwhere(count == 0):
        if i < j:
            raise DataError(
                path,
                None,
                f"{models[i]!r} and {models[j]!r} did not meet on prompt {prompts[p]!r}",
                "the open-ended game needs every two models on every prompt; leave the prompt or the model out",
            )
    return total / np.maximum(count, 1)
