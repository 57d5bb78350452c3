"""`lorank federate`: one adapter of many owners, none of whom gives their data away."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorank.cli import completion
from lorank.cli.options import Language, Negative, key_value, setting_value
from lorank.cli.progress import console, progress_bars, stage
from lorank.errors import UsageError

if TYPE_CHECKING:
    from lorank.data.collection import Collection
    from lorank.federated.planning import Device
    from lorank.federated.record import Round
    from lorank.federated.settings import Federation
    from lorank.training.recipe import RecipeFile

federate = typer.Typer(help="Train one adapter with many owners of data: simulate, server, client, merge, strategies.")

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


@federate.command()
def simulate(
    data: Annotated[
        list[str], typer.Option(help="A client's collection, or NAME=COLLECTION; once per client, two or more.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    base: Base = "minilm",
    kind: Kind = None,
    method: Method = "fedex-lora",
    option: Option = None,
    rounds: Rounds = 3,
    steps: Steps = 10,
    adapter: Adapter = None,
    rank: Rank = None,
    start: Start = None,
    loss: Loss = None,
    lr: Lr = None,
    batch_size: Batch = None,
    negatives: Negatives = None,
    clip: Clip = None,
    noise: Noise = 0.0,
    delta: Delta = None,
    bound: Bound = "none",
    device: Devices = None,
    settings: Set = None,
    negative: Negative = "error",
    language: Language = "auto",
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last round that was finished.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
) -> None:
    """Run a federation in one process, each --data a client; prints a table of rounds: bytes each way, and dev.

    Examples:

        lorank federate simulate --data pydocs --data lohelp --base minilm --method fedex-lora --out runs/federation

        lorank federate simulate --data a=A --data b=B --method fed-sb --start zero --clip 1 --noise 2 --out runs/p

        lorank federate simulate --data a=my-a --data b=my-b --method legend-fedft --device b=0.5,4 --out runs/devices
    """
    given: dict[str, Any] = {"base": base, "kind": kind, "seed": seed, "negative": negative, "language": language}
    given |= {"adapter.name": adapter, "adapter.rank": rank, "adapter.start": start, "loss.name": loss}
    given |= {"training.lr": lr, "training.batch_size": batch_size, "lists.negatives": negatives}
    named = client_names(data)
    federation = read_federation(method, option, rounds, steps, clip, noise, delta, bound, device)
    recipe = read_client_recipe(given, settings)
    from lorank.federated.simulation import simulate as run

    collections = {name: load_collection(source, negative, language) for name, source in named.items()}
    with progress_bars() as on_progress:
        rows = run(collections, recipe, federation, out, resume=resume, overwrite=overwrite, on_progress=on_progress)
    print(table_of(rows))
    console.print(f"the clients' rankers are in {out / 'clients'}", soft_wrap=True)
    if (out / "model").is_dir():
        print(out / "model")


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


Address = Annotated[str, typer.Option(help="HOST:PORT; other machines than this one require TLS, or --insecure.")]
Patience = Annotated[float, typer.Option(min=0, help="Seconds to wait for the others, and for a round.")]
Insecure = Annotated[bool, typer.Option("--insecure", help="Allow other machines without TLS.")]


@federate.command()
def server(
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    address: Address = "127.0.0.1:8080",
    clients: Annotated[int, typer.Option(min=1, help="How many clients a round waits for.")] = 2,
    method: Method = "fedex-lora",
    option: Option = None,
    rounds: Rounds = 3,
    steps: Steps = 10,
    bound: Bound = "none",
    base: Annotated[
        str | None,
        typer.Option(autocompletion=completion.bases, help="Write the model of all on this base, the clients' own."),
    ] = None,
    kind: Kind = None,
    adapter: Adapter = None,
    rank: Rank = None,
    settings: Set = None,
    ca: Annotated[Path | None, typer.Option(help="TLS: the authority's certificate, PEM.")] = None,
    certificate: Annotated[Path | None, typer.Option(help="TLS: the server's certificate, PEM.")] = None,
    key: Annotated[Path | None, typer.Option(help="TLS: the server's key, PEM.")] = None,
    insecure: Insecure = False,
    patience: Patience = 600.0,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last round that was finished.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
) -> None:
    """Serve a federation over a network through Flower; needs no data, and with --base writes the model of all.

    Examples:

        lorank federate server --clients 3 --method fedex-lora --rounds 5 --base minilm --out runs/server

        lorank federate server --address 0.0.0.0:8080 --ca ca.pem --certificate server.pem --key server.key --out runs/s
    """
    federation = read_federation(method, option, rounds, steps, None, 0.0, None, bound)
    given = {"base": base, "kind": kind, "seed": seed, "adapter.name": adapter, "adapter.rank": rank}
    recipe = None if base is None else read_client_recipe(given, settings)
    files = (ca, certificate, key)
    if any(files) and not all(files):
        raise UsageError("TLS takes three files: --ca, --certificate and --key")
    from lorank.federated.flower.server_process import Certificates, run_server

    made = Certificates(ca, certificate, key) if ca and certificate and key else None
    with progress_bars() as on_progress:
        ended = run_server(
            federation,
            address,
            out,
            clients=clients,
            patience=patience,
            certificates=made,
            insecure=insecure,
            resume=resume,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    if recipe is not None:
        from lorank.federated.common_model import write_common_model
        from lorank.federated.simulation import prepare_recipe

        said = write_common_model(prepare_recipe(recipe, federation), ended, out / "model")
        print(out / "model") if said is None else console.print(said, soft_wrap=True)


@federate.command()
def client(
    data: Annotated[str, typer.Option(help="This client's collection, which never leaves it.")],
    out: Annotated[Path, typer.Option(help="This client's folder: its state and its ranker.")],
    name: Annotated[str, typer.Option(help="Its name, of its own in the federation.")],
    address: Address = "127.0.0.1:8080",
    base: Base = "minilm",
    kind: Kind = None,
    method: Method = "fedex-lora",
    option: Option = None,
    adapter: Adapter = None,
    rank: Rank = None,
    start: Start = None,
    loss: Loss = None,
    lr: Lr = None,
    batch_size: Batch = None,
    negatives: Negatives = None,
    clip: Clip = None,
    noise: Noise = 0.0,
    delta: Delta = None,
    device: Devices = None,
    settings: Set = None,
    ca: Annotated[Path | None, typer.Option(help="TLS: the certificate of the server's authority, PEM.")] = None,
    insecure: Insecure = False,
    patience: Patience = 600.0,
    negative: Negative = "error",
    language: Language = "auto",
    seed: Seed = 0,
) -> None:
    """Take part in a federation with a collection of one's own; a client that was killed goes on when started again.

    Method, base, adapter, rank and seed must be the same for all. With --device, name every client's device.

    Examples:

        lorank federate client --name north --data my-data --base minilm --method fedex-lora --out runs/north

        lorank federate client --name north --data my-data --address server:8080 --ca ca.pem --out runs/north
    """
    given: dict[str, Any] = {"base": base, "kind": kind, "seed": seed, "negative": negative, "language": language}
    given |= {"adapter.name": adapter, "adapter.rank": rank, "adapter.start": start, "loss.name": loss}
    given |= {"training.lr": lr, "training.batch_size": batch_size, "lists.negatives": negatives}
    from lorank import index

    index.check_data(data, "--data")
    federation = read_federation(method, option, 1, 1, clip, noise, delta, "none", device)
    recipe = read_client_recipe(given, settings)
    from lorank.federated.client import open_client
    from lorank.federated.flower.client_process import run_client
    from lorank.federated.flower.library import check_address
    from lorank.federated.planned_ranks import planned_ranks
    from lorank.federated.simulation import prepare_recipe
    from lorank.training.weights import rank_of

    check_address(address, ca is not None, insecure)
    recipe, collection = prepare_recipe(recipe, federation), load_collection(data, negative, language)
    aggregator = federation.aggregator()
    named = sorted({name, *federation.devices})
    ranks = planned_ranks(aggregator, name, named, federation.devices, rank_of(recipe.adapter))
    with progress_bars() as on_progress:
        made = open_client(
            name,
            recipe,
            collection,
            aggregator,
            out,
            steps=DEV_STEPS,
            privacy=federation.privacy,
            ranks=ranks,
            on_progress=on_progress,
        )
        run_client(made, address, ca=ca, insecure=insecure, patience=patience, on_progress=on_progress)
    print(out / "model")


DEV_STEPS = 100
"""The steps by which a client's look at dev is sized, as it does not know how many rounds there will be."""


@federate.command()
def merge(
    folders: Annotated[list[Path], typer.Argument(help="Tuned rankers of one base, adapted alike; two or more.")],
    out: Annotated[Path, typer.Option(help="Folder of the merged ranker.")],
    method: Method = "fedex-lora",
    option: Option = None,
    weight: Annotated[
        list[float] | None, typer.Option(help="The weight of each folder, in order. [default: all alike]")
    ] = None,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; nothing is drawn.")] = 0,
) -> None:
    """Make one ranker of rankers that were tuned apart, as a server would in a round; it scores alone.

    Examples:

        lorank federate merge runs/north runs/south --method fedex-lora --weight 300 --weight 80 --out runs/both
    """
    from lorank import index

    index.check("aggregator", method, "--method")
    from lorank.federated import make_aggregator
    from lorank.federated.merging import merge_folders

    options = dict(key_value(text, "--option") for text in option or [])
    merge_folders(folders, make_aggregator(method, **options), out, weight)
    print(out)


@federate.command()
def recommend(
    ratings: Annotated[Path, typer.Option(help="Rows of user, item and rating, separated by tabs.")],
    out: Annotated[Path, typer.Option(help="Run to write: of each user the best items that it has not rated.")],
    low: Annotated[float, typer.Option(help="The lowest rating that there can be, known without the data.")] = 1.0,
    high: Annotated[float, typer.Option(help="The highest.")] = 5.0,
    rank: Annotated[int, typer.Option(min=1, help="The number of factors.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="How often users and items alternate.")] = 5,
    ridge: Annotated[float, typer.Option(help="The weight of the factors' norms.")] = 1.0,
    noise: Annotated[float, typer.Option(min=0, help="The noise multiplier; 0 is plain ALS, without privacy.")] = 5.0,
    power: Annotated[
        float, typer.Option(min=0, help="How strongly a user's budget goes to rare items; 0 spreads it evenly.")
    ] = 0.5,
    delta: Annotated[float | None, typer.Option(help="The delta of epsilon. [default: 1 / users]")] = None,
    top: Annotated[int, typer.Option(min=1, help="Items per user.")] = 10,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of first factors and noise; who knows it knows the noise. [default: the system's]"),
    ] = None,
) -> None:
    """Recommend items from ratings under user-level privacy, with the budget for items of few users; prints epsilon.

    Examples:

        lorank federate recommend --ratings ratings.tsv --noise 10 --out recommended.run
    """
    import torch

    from lorank.data import write_run
    from lorank.federated.private_als import PrivateALS
    from lorank.federated.ratings import read_ratings, recommended

    users, items, read = read_ratings(ratings, low, high)
    als = PrivateALS(rank, rounds, ridge, noise, power)
    made = delta if delta is not None else 1 / max(len(users), 2)
    epsilon = als.epsilon(made)
    generator = torch.Generator()
    generator.seed() if seed is None else generator.manual_seed(seed)
    V = als.fit(read, generator)
    write_run(recommended(als, read, V, users, items, top), out, "als")
    print(json.dumps({"users": len(users), "items": len(items), "epsilon": epsilon, "delta": made}))


@federate.command()
def strategies(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")] = False,
    seed: Annotated[int, typer.Option(help="Accepted for uniformity; nothing is drawn.")] = 0,
) -> None:
    """Print which published strategies of federated low-rank adaptation are here, and under which --method.

    Examples:

        lorank federate strategies
    """
    from lorank.federated.survey import STRATEGIES, survey_table

    if as_json:
        print(json.dumps([vars(each) for each in STRATEGIES], ensure_ascii=False, indent=1))
        return
    print(survey_table())
