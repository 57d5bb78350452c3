"""`lorank methods`: what is registered, by published name."""

import json
from typing import Annotated

import typer


def methods(
    area: Annotated[str | None, typer.Option(help="Only this area, e.g. adapters.form.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every registered method: its id (its name everywhere), area and title.

    Example: `lorank methods --area losses.supervised`
    """
    import lorank.lowrank
    import lorank.ranking.consensus
    import lorank.ranking.judges.warmup
    import lorank.ranking.losses
    import lorank.ranking.metrics.depth
    import lorank.ranking.preferences
    import lorank.ranking.scorers.features
    import lorank.ranking.scorers.pyramid
    import lorank.ranking.scorers.taxonomy
    import lorank.ranking.strategies
    import lorank.serving.forward.activated
    import lorank.serving.forward.engine
    import lorank.training.methods.rankgen
    import lorank.training.methods.rewards_in_context
    import lorank.training.methods.sparta
    import lorank.training.methods.trans_lora  # noqa: F401  (importing a family fills the catalogue)
    from lorank.catalogue import methods as registered

    found = registered(area)
    if as_json:
        print(json.dumps([method.as_dict() for method in found], indent=1))
        return
    width = max((len(m.id) for m in found), default=0)
    for method in found:
        print(f"{method.id:{width}}  {method.area:20}  {method.title}")
