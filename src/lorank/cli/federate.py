"""`lorank federate`: one adapter of many owners, none of whom gives their data away."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from lorank.cli.federate_options import (
    Adapter,
    Base,
    Batch,
    Bound,
    Clip,
    Delta,
    Devices,
    Kind,
    Loss,
    Lr,
    Method,
    Negatives,
    Noise,
    Option,
    Rank,
    Rounds,
    Seed,
    Set,
    Start,
    Steps,
    client_names,
    load_collection,
    read_client_recipe,
    read_federation,
    table_of,
)
from lorank.cli.options import Language, Negative, key_value
from lorank.cli.progress import console, progress_bars

federate = typer.Typer(
    help="Train one adapter with many owners of data: simulate, server, client, merge, strategies, recommend."
)


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
