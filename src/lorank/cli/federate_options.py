"""The options of `lorank federate` that several of its commands take, and how they are read."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank.cli import completion
from lorank.cli.options import key_value, setting_value
from lorank.cli.progress import stage
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.federated.planning import Device
    from lorank.federated.record import Round
    from lorank.federated.settings import Federation
    from lorank.training.recipe import RecipeFile

Base = Annotated[str, typer.Option(autocompletion=completion.bases, help="The base of all clients.")]
Kind = Annotated[str | None, typer.Option(autocompletion=completion.names("kind"), help="The kind of ranker.")]
Adapter = Annotated[
    str | None,
    typer.Option(autocompletion=completion.names("adapter"), help="The low-rank form. [default: the method's own]"),
]
Rank = Annotated[int | None, typer.Option(min=1, help="The rank of the adapter.")]
Loss = Annotated[str | None, typer.Option(autocompletion=completion.names("loss"), help="The loss of every client.")]
Start = Annotated[str | None, typer.Option(help="Where the factors start. [default: the adapter's own]")]
Lr = Annotated[float | None, typer.Option(help="The learning rate. [default: the one that the adapter brings]")]
Batch = Annotated[int | None, typer.Option(help="Lists per step.")]
Negatives = Annotated[int | None, typer.Option(help="Negatives drawn for each list.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="Any setting of a recipe, section.key=value; repeat it.")]
Method = Annotated[
    str, typer.Option(autocompletion=completion.names("aggregator"), help="How messages are made one: see strategies.")
]
Option = Annotated[list[str] | None, typer.Option(help="An option of the method, key=value; repeat it.")]
Rounds = Annotated[int, typer.Option(min=1, help="How often clients train and send.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps per client and round.")]
Clip = Annotated[float | None, typer.Option(help="Clip what a client changes per round to this norm before it leaves.")]
Noise = Annotated[float, typer.Option(help="Add Gaussian noise of this times --clip; epsilon is stated per round.")]
Delta = Annotated[float | None, typer.Option(help="The delta that epsilon is stated for. [default: 1 / examples]")]
Bound = Annotated[
    str, typer.Option(help="Bound every client's update at the server: none, median (of all norms), or a norm.")
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="For legend-fedft, CLIENT=SPEED[,BLOCKS]: relative speed, and how many adapted blocks its memory holds.",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random but private noise.")]


def client_names(given: list[str]) -> dict[str, str]:
    """Return the collections by the names of their clients.

    >>> client_names(["pydocs", "b=lohelp"])
    {'pydocs': 'pydocs', 'b': 'lohelp'}
    """
    from lorank import index

    named: dict[str, str] = {}
    for text in given:
        name, equals, source = text.partition("=")
        source = source if equals else text
        name = name if equals else Path(source).name
        if not name or name in named or "/" in name or name.startswith("."):
            raise UsageError(f"--data {text!r}: give each client a name of its own, as in NAME=COLLECTION")
        index.check_data(source, "--data")
        named[name] = source
    if len(named) < 2:
        raise UsageError("a federation has two clients or more; give --data twice")
    return named


def read_federation(
    method: str,
    option: list[str] | None,
    rounds: int,
    steps: int,
    clip: float | None,
    noise: float,
    delta: float | None,
    bound: str,
    device: list[str] | None = None,
) -> "Federation":
    """Return the settings of a federation, checked."""
    from lorank import index

    index.check("aggregator", method, "--method")
    options = dict(key_value(text, "--option") for text in option or [])
    if noise and clip is None:
        raise UsageError("--noise is relative to a clip; add --clip, such as --clip 1")
    from lorank.federated.privacy import Privacy
    from lorank.federated.settings import Federation

    privacy = None if clip is None else Privacy(clip, noise, delta)
    limit: str | float = bound if bound in ("none", "median") else _number(bound, "--bound")
    made = Federation(method, options, rounds, steps, privacy, limit, _devices(device))
    made.aggregator()
    return made


def read_client_recipe(given: dict[str, Any], settings: list[str] | None) -> "RecipeFile":
    """Return the recipe of every client, checked: a constant rate, unless --set says otherwise."""
    from lorank.training.checks import check_names, check_options
    from lorank.training.recipe import RecipeFile, override

    constant = {"training.warmup": 0.0, "training.decay": "none"}
    stated = {key: value for key, value in given.items() if value is not None}
    recipe = override(override(RecipeFile(), constant, "the command"), stated, "the command")
    recipe = override(recipe, dict(setting_value(text) for text in settings or []))
    check_names(recipe, stated, None)
    with stage("check the settings"):
        check_options(recipe)
    return recipe


def load_collection(source: str, negative: str, language: str) -> "Collection":
    """Return a client's collection."""
    import lorank

    with stage(f"read {source}"):
        collection: Collection = lorank.load(source, negative=negative, language=language)
    return collection


def table_of(rows: "list[Round]") -> str:
    """Return the rounds as a Markdown table."""
    names = list(rows[-1].dev)
    private = any(row.epsilon for row in rows)
    head = ["round", "bytes up", "bytes down", *(f"dev {name}" for name in names), *(["epsilon"] if private else [])]
    lines = ["| " + " | ".join(head) + " |", "|--:" * len(head) + "|"]
    for row in rows:
        cells = [row.round, sum(row.up.values()), sum(row.down.values()), *(f"{row.dev[name]:.4f}" for name in names)]
        if private:
            cells.append(f"{max(row.epsilon.values(), default=0.0):.3g}")
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _devices(given: list[str] | None) -> "dict[str, Device]":
    from lorank.federated.planning import Device

    devices = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        speed, comma, most = value.partition(",")
        if not name or not equals or (comma and not most.isdigit()):
            raise UsageError(f"--device {text!r} is not CLIENT=SPEED or CLIENT=SPEED,BLOCKS")
        devices[name] = Device(_number(speed, "--device"), int(most) if comma else None)
    return devices


def _number(text: str, flag: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{flag} {text!r} is no number") from error
