"""What `lorank aggregate` shows besides one order: all rules side by side, a committee, the ratings of a game."""

import json
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING

from lorank.errors import DataError, UsageError

if TYPE_CHECKING:
    from lorank.ranking.consensus import Profile


def show_board(profile: "Profile", as_json: bool) -> None:
    """Print every item's rank under every rule that the ballots allow, in the order of the mean of the ranks."""
    from lorank.ranking.consensus import vote_n_rank

    found = vote_n_rank(profile)
    ranks = {
        name: {item: 1 + sum(other > score for other in each.scores.values()) for item, score in each.scores.items()}
        for name, each in found.items()
    }
    mean = {item: sum(rank[item] for rank in ranks.values()) / len(ranks) for item in profile.items}
    order = sorted(profile.items, key=lambda item: (mean[item], item))
    if as_json:
        orders = {
            name: [{"rank": ranks[name][item], "item": item, "score": each.scores[item]} for item in each.order]
            for name, each in found.items()
        }
        print(json.dumps({"method": "all", "orders": orders, "mean_rank": mean}, indent=1, ensure_ascii=False))
        return
    print("\t".join(["mean rank", *ranks, "item"]))
    for item in order:
        print("\t".join([f"{mean[item]:.2f}", *(str(rank[item]) for rank in ranks.values()), item]))


def show_committee(
    profile: "Profile", count: int, method: str, group_of: Path | None, at_least: list[str], as_json: bool
) -> None:
    """Print the items of a committee, best first, and the score of the set.

    Raises:
        DataError: For a row of ``group_of`` that is not item,group.
        UsageError: For bounds that are not group=count, or that no committee meets.
    """
    from lorank.ranking.consensus import select

    bounds: dict[Hashable, int] = dict(_bound(text) for text in at_least)
    groups = None if group_of is None else _read_groups(group_of)
    if bounds and groups is None:
        raise UsageError("--at-least bounds groups; say which item is in which with --group-of ITEMS.csv")
    chosen = select(profile, count, method, group_of=groups, at_least=bounds)
    if as_json:
        found = {"method": method, "items": list(chosen.items), "score": chosen.score}
        print(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for place, item in enumerate(chosen.items, 1):
        print(f"{place}\t{item}" + ("" if groups is None else f"\t{groups.get(item, '')}"))


def show_games(path: Path, as_json: bool) -> None:
    """Print the models' ratings in the open-ended game of a file of games, best first, and in JSON the prompts' too."""
    from lorank.ranking.consensus import open_ended_ratings
    from lorank.ranking.consensus.game_files import read_games

    games = read_games(path)
    found = open_ended_ratings(games.better)
    models, prompts = (
        dict(sorted(zip(names, values.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0])))
        for names, values in ((games.models, found.models), (games.prompts, found.prompts))
    )
    if as_json:
        found_play = dict(zip(games.prompts, found.prompt_play.tolist(), strict=True))
        content = {"method": "open-ended", "models": models, "prompts": prompts, "prompt_play": found_play}
        print(json.dumps(content, indent=1, ensure_ascii=False))
        return
    for model, rating in models.items():
        print(f"{1 + sum(other > rating for other in models.values())}\t{rating:.6g}\t{model}")


def _bound(text: str) -> tuple[str, int]:
    group, found, count = text.rpartition("=")
    if not found or not group or not count.isdecimal():
        raise UsageError(f"--at-least: {text!r} is not group=count, such as small=2")
    return group, int(count)


def _read_groups(path: Path) -> dict[str, str]:
    from lorank.ranking.consensus.reading import csv_rows

    groups: dict[str, str] = {}
    for line, fields in csv_rows(path):
        row = [field.strip() for field in fields]
        if not any(row) or (line == 1 and [cell.lower() for cell in row] == ["item", "group"]):
            continue
        if len(row) != 2 or not all(row):
            raise DataError(path, line, f"{len(row)} columns", "a row is item,group")
        if groups.setdefault(row[0], row[1]) != row[1]:
            raise DataError(path, line, f"{row[0]!r} is in two groups", "give each item one group")
    return groups
