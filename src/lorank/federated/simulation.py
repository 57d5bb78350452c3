"""A federation in one process: every client trains in turn, and messages are packed and unpacked as on a wire.

The run folder:

    federation.json            the settings, the clients, and a row per round: bytes each way, losses, dev
    rounds/0003/               the server after round 3
    clients/NAME/              the state of a client, the journal of each of its rounds, and model/, its tuned ranker
    model/                     the ranker of all clients, where the method makes one

A run that was killed goes on from the last round that it finished.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from lorank.data.collection import Collection
from lorank.errors import UsageError
from lorank.federated.aggregators.core.aggregator import Upload
from lorank.federated.client import Client
from lorank.federated.common_model import write_common_model
from lorank.federated.messages import pack, packed_payload, unpack
from lorank.federated.open_client import open_client
from lorank.federated.planned_ranks import planned_ranks
from lorank.federated.record import Round, claim, note
from lorank.federated.server import Server
from lorank.federated.settings import Federation
from lorank.lowrank.presets import preset
from lorank.lowrank.starts import start_named
from lorank.progress import StageCallback
from lorank.training.open_recipe import reading_of_titles
from lorank.training.recipe import RecipeFile
from lorank.training.settings import as_plain
from lorank.training.weights import rank_of

logger = logging.getLogger("lorank")


def simulate(
    collections: Mapping[str, Collection],
    recipe: RecipeFile,
    federation: Federation,
    out: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    on_progress: StageCallback = lambda what, done, total: None,
) -> list[Round]:
    """Run a federation in this process, and return what happened in each round, the state before it included.

    Args:
        collections: The clients' collections by the clients' names.
        recipe: How every client trains.
        federation: The method, its rounds and steps, and what is done to messages.
        out: The run folder.
        resume: True goes on from the last round in ``out``.
        overwrite: True replaces an earlier run in ``out``.
        on_progress: It receives the stage, the number of units done and their total.

    Raises:
        UsageError: If ``out`` holds a run and neither ``resume`` nor ``overwrite`` is given, or settings cannot work.
    """
    recipe = _read_alike(prepare_recipe(recipe, federation), collections)
    description = {"federation": federation.as_plain(), "recipe": as_plain(recipe), "clients": sorted(collections)}
    rounds = claim(out, description, resume, overwrite)
    clients = _open(collections, recipe, federation, out, on_progress)
    server = Server(federation.aggregator(), federation.bound)
    if rounds:
        server.load(out / "rounds" / f"{rounds[-1].round:04d}")
        for client in clients:
            if not client.restore(server.round):
                raise UsageError(f"{client.folder} has no state of round {server.round}; start anew with --overwrite")
    else:
        rounds.append(_begin(clients, server))
        note(out, description, server, rounds)
    while server.round < federation.rounds:
        rounds.append(_one_round(clients, server, federation, on_progress))
        note(out, description, server, rounds)
    for client in clients:
        client.save_ranker(client.folder / "model", client.measure())
    said = write_common_model(recipe, server, out / "model")
    if said is not None:
        logger.info("%s; the clients' own rankers are in %s", said, out / "clients")
    return rounds


def _read_alike(recipe: RecipeFile, collections: Mapping[str, Collection]) -> RecipeFile:
    """Return the recipe with the reading that all clients choose, so that the model of all reads likewise."""
    readings = {reading_of_titles(recipe, data) for data in collections.values()}
    return replace(recipe, reading=readings.pop()) if len(readings) == 1 else recipe


def prepare_recipe(recipe: RecipeFile, federation: Federation) -> RecipeFile:
    """Return the recipe with the method's own adapter where it names none.

    Raises:
        UsageError: If noise is to make private what a start that reads the data would give away.
    """
    if recipe.adapter.name == "auto":
        recipe = replace(recipe, adapter=replace(recipe.adapter, name=federation.aggregator().adapter))
    if federation.privacy is not None and federation.privacy.noise:
        federation.privacy.epsilon(1, 2)  # says at once what is missing
        start = recipe.adapter.start or preset(recipe.adapter.name).start
        if start_named(start).needs:
            raise UsageError(f"--start {start} reads the first client's data and is sent as it is; take --start zero")
    return recipe


def _open(
    collections: Mapping[str, Collection],
    recipe: RecipeFile,
    federation: Federation,
    out: Path,
    on_progress: StageCallback,
) -> list[Client]:
    clients, names = [], sorted(collections)
    for name in names:
        aggregator = federation.aggregator()
        ranks = planned_ranks(aggregator, name, names, federation.devices, rank_of(recipe.adapter))
        clients.append(
            open_client(
                name,
                recipe,
                collections[name],
                aggregator,
                out / "clients" / name,
                steps=federation.rounds * federation.steps,
                privacy=federation.privacy,
                ranks=ranks,
                on_progress=on_progress,
            )
        )
    return clients


def _begin(clients: list[Client], server: Server) -> Round:
    """Let the first of the clients that have the most layers say how all start."""
    deepest = max(clients, key=lambda client: client.tensors)
    sent = pack(deepest.begin())
    server.begin(unpack(sent))
    row = Round(0, up={deepest.name: packed_payload(sent)})
    _deliver(clients, server, row)
    return row


def _one_round(clients: list[Client], server: Server, federation: Federation, on_progress: StageCallback) -> Round:
    number, uploads = server.round + 1, {}
    row = Round(number)
    for client in clients:
        row.loss[client.name] = client.train(number, federation.steps, on_progress)
        sent = pack(client.send())
        row.up[client.name] = packed_payload(sent)
        uploads[client.name] = Upload(unpack(sent), client.weight)
    server.close_round(uploads)
    _deliver(clients, server, row)
    if federation.privacy is not None and federation.privacy.noise:
        row.epsilon = {each.name: federation.privacy.epsilon(number, each.examples) for each in clients}
    on_progress(f"round · dev {sum(row.dev.values()) / len(row.dev):.4f}", number, federation.rounds)
    return row


def _deliver(clients: list[Client], server: Server, row: Round) -> None:
    """Send every client its reply, and look at its dev."""
    for client in clients:
        reply = pack(server.reply(client.name, client.installed))
        row.down[client.name] = packed_payload(reply)
        client.receive(unpack(reply), server.round)
        said = client.measure()
        row.dev[client.name], row.alone[client.name] = said.value, said.alone
