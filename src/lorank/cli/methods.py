"""`lorank methods`: what is registered, by published name."""

import json
from typing import Annotated

import typer

from lorank.catalogue import METHODS, Method
from lorank.cli.width import cut_to_width


def methods(
    area: Annotated[str | None, typer.Option(help="Only this area, e.g. adapters.form.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    reach: Annotated[
        bool, typer.Option("--reach", help="Print how each is reached: Python, recipe, command, or why not.")
    ] = False,
) -> None:
    """List every registered method: its id (its name everywhere), area and title.

    Example: `lorank methods --area losses.supervised`
    """
    from lorank.errors import unknown_name
    from lorank.reach import reach as reach_of

    found = listed()
    areas = {method.area for method in found}
    if area is not None and area not in areas:
        raise unknown_name("area", area, areas)
    found = [method for method in found if area in (None, method.area)]
    if as_json:
        print(json.dumps([method.as_dict() for method in found], indent=1))
        return
    width = max((len(m.id) for m in found), default=0)
    for method in found:
        print(cut_to_width(f"{method.id:{width}}  {method.area:20}  {reach_of(method) if reach else method.title}"))


def listed() -> list[Method]:
    """Return all methods by area and id: lorank's own from its sources, those of plugins by importing these."""
    from lorank import index, plugins

    plugins.load()
    brought = [method for method in METHODS.values() if not method.location.startswith("lorank.")]
    return sorted([*index.methods(), *brought], key=lambda method: (method.area, method.id))
