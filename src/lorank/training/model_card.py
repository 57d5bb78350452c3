"""README.md of a tuned ranker's folder: a model card that the Hub reads, with what a user must know.

The front matter states the task (text-ranking), the base, the collection and what dev said; the text says what a
score means and how to use the folder.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorank import __version__
from lorank.data.collection import Collection
from lorank.data.files import write_text
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.gain import Gain
from lorank.training.loop.loop import MAIN_MEASURE
from lorank.training.projecting import is_projected
from lorank.training.settings import Recipe
from lorank.tuned.mix import Mix

TEXT = """
# {name}

{kind} on `{base}`, adapted to {collection} with {adapter} and the loss `{loss}` by lorank {version}.

## Use
```
lorank rank --ranker {folder} --query "..." --documents documents.jsonl --top 3
lorank rerank --ranker {folder} --data {collection} --run first-stage.run --out tuned.run
```
```python
from lorank import load_ranker

load_ranker("{folder}").rank("a query", ["a document", "another"], top=1)
```

## What a score means
The learned score is a {scale}, {mix} It orders the documents of one query; it is no probability, and no threshold is
suggested.

## How it was judged
{judged_on}
{gains}
"""

ROWS_TEXT = """
# {name}

`{model}`, trained on the feature rows of {collection} by lorank {version}.

## Use
```
lorank rerank --ranker {folder} --data {collection} --out tuned.run
```
```python
from lorank import load_ranker

load_ranker("{folder}").score("", rows)      # rows: float [documents, {features}], the whole list of one query
```

## What a score means
The score is a {scale}. It orders the documents of one query; it is no probability, and no threshold is suggested.

## How it was judged
{judged_on}
"""


def model_card(
    folder: Path,
    recipe: Recipe,
    data: Collection,
    ranker: TrainableRanker,
    mix: Mix,
    source: str,
    judged_on: str,
    gains: Sequence[Gain] = (),
) -> str:
    """Return the card of the tuned ranker in ``folder``.

    Args:
        folder: The folder of the model.
        recipe: The recipe of the run.
        data: The collection.
        ranker: The ranker.
        mix: The mix that was chosen.
        source: The name of the first stage.
        judged_on: Sentences that say what chose steps and mix, with the value on dev.
        gains: What training gained.
    """
    best = max(dict(mix.curve).values(), default=None)
    mixed = (
        f"added with weight {mix.describe_weight()}, in units of its spread, to the standardised score of the first "
        f"stage ({source})."
        if mix.first_stage
        else "which stands alone."
    )
    text = TEXT.format(
        name=folder.parent.name,
        kind=ranker.kind.capitalize(),
        base=ranker.base,
        collection=data.name,
        adapter=f"`{recipe.adapter.name}`"
        + ("" if recipe.adapter.name in ("full", "head") else f" of rank {recipe.adapter.rank}")
        + (f", by the optimizer `{recipe.optimizer.name}`" if is_projected(recipe.optimizer) else ""),
        loss=recipe.loss.name,
        version=__version__,
        folder=folder,
        scale=ranker.score_scale,
        mix=mixed,
        judged_on=judged_on,
        gains="\n".join(f"- {gain.describe()}" for gain in gains) or "Judge on test with `lorank evaluate`.",
    )
    return f"---\n{front_matter(recipe, data, ranker, best)}---\n{text}"


def front_matter(recipe: Recipe, data: Collection, ranker: TrainableRanker, dev: float | None) -> str:
    """Return the card's YAML.

    Args:
        recipe: The recipe of the run.
        data: The collection that the ranker was trained on.
        ranker: The tuned ranker.
        dev: The best value on dev, from 0 to 1; None where nothing was measured on it.
    """
    return _yaml(data, dev, [ranker.kind, recipe.adapter.name, f"loss:{recipe.loss.name}"], str(ranker.base))


def _yaml(data: Collection, dev: float | None, tags: list[str], base: str | None) -> str:
    """JSON values, which are YAML too, keep every name quoted."""
    results = [] if dev is None else [_dev_result(data, dev)]
    entries: dict[str, Any] = {
        "pipeline_tag": "text-ranking",
        "library_name": "lorank",
        **({} if base is None else {"base_model": base}),
        "datasets": [data.name],
        "tags": ["reranker", *tags],
        "model-index": [{"name": data.name, "results": results}],
    }
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in entries.items())


def _dev_result(data: Collection, dev: float) -> dict[str, Any]:
    return {
        "task": {"type": "text-ranking"},
        "dataset": {"name": data.name, "type": data.name, "split": "dev"},
        "metrics": [{"type": MAIN_MEASURE, "value": round(dev, 4), "name": f"dev {MAIN_MEASURE}"}],
    }


def write_model_card(
    folder: Path,
    recipe: Recipe,
    data: Collection,
    ranker: TrainableRanker,
    mix: Mix,
    source: str,
    judged_on: str,
    gains: Sequence[Gain] = (),
) -> None:
    """Write ``folder``/README.md.

    Args:
        folder: The model folder.
        recipe: The recipe of the run.
        data: The collection that the ranker was trained on.
        ranker: The tuned ranker.
        mix: The mix that was chosen, with its curve.
        source: The name of the first stage.
        judged_on: Sentences that say what chose steps and mix, with the value on dev.
        gains: The gains, as far as they were judged.
    """
    write_text(folder / "README.md", model_card(folder, recipe, data, ranker, mix, source, judged_on, gains))


def write_rows_card(folder: Path, data: Collection, ranker: Any, model: str, dev: float, judged_on: str) -> None:
    """Write ``folder``/README.md of a ranker of feature rows that learned by its own objective.

    Args:
        folder: The model folder; the card has the name of its parent, the run folder.
        data: The collection that the ranker was trained on.
        ranker: The ranker, which knows its features and its scale.
        model: The name of the feature model.
        dev: The value on dev, from 0 to 1.
        judged_on: Sentences that say what chose how long it learned, with the value on dev.
    """
    text = ROWS_TEXT.format(
        name=folder.parent.name,
        model=model,
        collection=data.name,
        version=__version__,
        folder=folder,
        features=ranker.features,
        scale=ranker.score_scale,
        judged_on=judged_on,
    )
    write_text(folder / "README.md", f"---\n{_yaml(data, dev, [ranker.kind, model], None)}---\n{text}")
