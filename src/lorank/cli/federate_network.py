"""`lorank federate server` and `client`: a federation over a network."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lorank.cli import completion
from lorank.cli.federate import federate
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
    load_collection,
    read_client_recipe,
    read_federation,
)
from lorank.cli.options import Language, Negative
from lorank.cli.progress import console, progress_bars
from lorank.errors import UsageError

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
    from lorank.federated.flower.client_process import run_client
    from lorank.federated.flower.library import check_address
    from lorank.federated.open_client import open_client
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


__all__ = ["federate"]
