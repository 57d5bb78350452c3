"""The options of every command that opens a ranker by its name: which ranker, as what, and how it reads."""

from typing import TYPE_CHECKING, Annotated

import typer

from lorank.cli import completion
from lorank.cli.options import setting_value
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.tuned.reading import ReadingSettings

NAMES = (
    "minilm, a model's folder or Hub name (encoder, reranker, language model), the --out folder of `lorank train`, a "
    "PEFT folder, openai:URL#MODEL or causal:BASE (a judge), or bm25"
)

Kind = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.names("kind"),
        help="What a base is opened as: bi-encoder, cross-encoder, ... [default: what it was made for]",
    ),
]
Label = Annotated[
    str | None, typer.Option(help="Which label of a classifier of several is the score: its name or number.")
]
MaxLength = Annotated[int | None, typer.Option(min=8, help="The most tokens that are read at once.")]
Long = Annotated[
    str | None,
    typer.Option(
        help="A document that is too long: truncate, or titled, max, first or mean, the score of its passages. "
        "[default: as it was trained, mostly truncate]"
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        autocompletion=completion.reading_settings,
        help="How the ranker reads, reading.KEY=VALUE, such as reading.query_prefix='query: ' or "
        "reading.overlap=64; repeat it.",
    ),
]


def reading_of(settings: list[str] | None, max_length: int | None, long: str | None) -> "ReadingSettings":
    """Return the reading settings that the options give; raise UsageError for a key or value that cannot be."""
    from lorank.training.recipe import RecipeFile, override

    given = dict(setting_value(text) for text in settings or [])
    for setting in given:
        if not setting.startswith("reading."):
            raise UsageError(
                f"--set {setting}: a ranker that is only used has the section reading alone, reading.KEY=VALUE"
            )
    if max_length is not None:
        given["reading.max_length"] = max_length
    if long is not None:
        given["reading.long"] = long
    return override(RecipeFile(), given).reading
