"""One owner in a federation: its collection, its ranker, and the adapter of which only a part ever leaves it."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from lorank import lowrank
from lorank.data.collection import Collection
from lorank.data.folds import hold_out_dev
from lorank.errors import LorankError, UsageError
from lorank.federated.aggregators.core.aggregator import Aggregator
from lorank.federated.layout import Layout, layers_with
from lorank.federated.messages import Message, pack, unpack
from lorank.federated.planned_ranks import ChooseRanks
from lorank.federated.privacy import Privacy
from lorank.federated.server import WHOLE_DOWN, WHOLE_UP, join
from lorank.files import write_bytes
from lorank.lowrank.algebra.factors import add
from lorank.lowrank.algebra.sets import attach_factors, factors_of, heads_of
from lorank.lowrank.forms.form import Factors
from lorank.progress import StageCallback
from lorank.ranking.scorers.ranker import TrainableRanker
from lorank.training.begin_run import step_cost
from lorank.training.dev import DevMeasure, DevResult, dev_record, tokens_read
from lorank.training.dev_sample import plan_looks
from lorank.training.hooks.hook import Progress
from lorank.training.lists.list_loss import seed_of
from lorank.training.loop.loop import train
from lorank.training.open_recipe import open_recipe_base
from lorank.training.plan import Plan, build_plan, resolve_recipe
from lorank.training.recipe import RecipeFile
from lorank.training.weights import AdapterWeights
from lorank.tuned.ranker import TunedRanker

BESIDE = "residual"
"""The name of the frozen adapter that holds what the server has added to the base's weights."""


@dataclass
class Client:
    """An owner that trains, with everything that stays at its place.

    Attributes:
        name: Its name in the federation.
        plan: Its training run: collection, lists, ranker, adapter, loss.
        dev: Its look at its own dev split.
        aggregator: The method, which says what leaves and how messages are installed.
        folder: Where it keeps its state.
        privacy: What is done to what leaves it.
        noise: The source of the noise that nobody else may know.
        installed: The round of the message that is installed; -1 before any.
    """

    name: str
    plan: Plan
    dev: DevMeasure
    aggregator: Aggregator
    folder: Path
    privacy: Privacy | None = None
    noise: torch.Generator = field(default_factory=torch.Generator)
    installed: int = -1
    _received: Message = field(default_factory=dict, repr=False)
    _residual: dict[str, Factors] = field(default_factory=dict, repr=False)
    _beside: lowrank.Adapter | None = field(default=None, repr=False)

    @property
    def adapter(self) -> lowrank.Adapter:
        """The adapter that is trained."""
        adapter = self.plan.weights.adapter
        assert adapter is not None
        return adapter

    @property
    def layout(self) -> Layout:
        """What the names of the adapter's tensors mean."""
        return Layout.of(self.adapter)

    @property
    def examples(self) -> int:
        """How many training lists it has."""
        return len(self.plan.lists.epoch(0))

    @property
    def weight(self) -> float:
        """Its weight in a mean: its training lists, or 1 where messages are private, as their number tells of it."""
        return float(self.examples) if self.privacy is None else 1.0

    def begin(self) -> Message:
        """Return what makes all clients start as this one does."""
        return self.aggregator.start(self.adapter.state(), self.layout)

    def receive(self, message: Message, number: int) -> None:
        """Install the server's message of round ``number``; one that is installed already changes nothing.

        Raises:
            LorankError: If a later one is installed, which is then of another federation.
        """
        if number == self.installed:
            return
        if number < self.installed:
            raise LorankError(
                f"{self.folder} holds round {self.installed} of a federation, and the server is at round {number}; "
                "give this client another folder, or remove that one"
            )
        self.adapter.load_state(self.aggregator.install(self.adapter.state(), message, self.layout))
        self._received = {name: tensor for name, tensor in message.items() if name in self.layout.trained}
        self._take_residual(message)
        self.installed = number
        self.save_state()

    def train(self, number: int, steps: int, on_progress: StageCallback) -> float:
        """Train ``steps`` steps of round ``number`` on the client's own lists, and return their mean loss."""
        seed, losses = seed_of(self.plan.recipe.seed, number, 0, 0), []
        place = self.folder / "rounds" / f"{number:04d}"
        session = self.plan.session(place, None, steps=steps, looks=[steps])
        session = replace(session, seed=seed, lists=replace(self.plan.lists, seed=seed))

        def report(progress: Progress) -> None:
            losses.append(progress.loss)
            on_progress(f"train {self.name}", progress.step, progress.steps)

        train(session, on_progress=report)
        shutil.rmtree(place / "checkpoints", ignore_errors=True)
        return mean(losses)

    def send(self) -> Message:
        """Return what leaves the client, clipped and noised where that is asked for."""
        message = self.aggregator.pick(self.adapter.state(), self.layout)
        if self.privacy is not None:
            message = self.privacy.protect(message, self._received, self.noise)
        return {name: tensor.detach().clone() for name, tensor in message.items()}

    def measure(self) -> DevResult:
        """Return what the client's own dev split says of its ranker as it stands."""
        return self.dev.look()

    def save_ranker(self, folder: Path, dev: DevResult) -> None:
        """Write the client's tuned ranker, with its own first stage and the mix that its own dev chose.

        What the server has added to the base's weights becomes a part of the adapter, which has more ranks then.
        """
        adapter = self._as_one()
        first_stage = self.plan.found.first_stage if dev.mix.first_stage else None
        record = dev_record(self.dev.sample, dev)
        TunedRanker(self.plan.ranker, adapter, first_stage, dev.mix, dev=record).save(folder)

    def save_state(self) -> None:
        """Write all that the client must remember between this message and the next, and drop older states."""
        state = {f"adapter/{name}": tensor for name, tensor in self.adapter.state().items()}
        for path, factors in self._residual.items():
            state |= {f"residual/{path}.A": factors.A, f"residual/{path}.B": factors.B}
        state |= {f"received/{name}": tensor for name, tensor in self._received.items()}
        state["noise"] = self.noise.get_state()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self._state_of(self.installed), pack(state))
        self._state_of(self.installed - 2).unlink(missing_ok=True)

    def restore(self, number: int) -> bool:
        """Go back to when the message of round ``number`` was just installed; return False where nothing is kept."""
        path = self._state_of(number)
        if not path.exists():
            return False
        state = unpack(path.read_bytes())
        self.adapter.load_state(_under("adapter/", state))
        self._received, kept = _under("received/", state), _under("residual/", state)
        scalings = self.layout.scalings
        self._residual = {
            layer: Factors(kept[f"{layer}.A"], kept[f"{layer}.B"], scalings[layer])
            for layer in layers_with(kept, "A", "B")
        }
        self.noise.set_state(state["noise"])
        self._put_beside()
        self.installed = number
        return True

    def newest(self) -> int:
        """Return the newest round whose message was installed and is kept, -1 where there is none."""
        return max((int(path.stem.rpartition("-")[2]) for path in self.folder.glob("state-*.safetensors")), default=-1)

    def _state_of(self, number: int) -> Path:
        return self.folder / f"state-{number:04d}.safetensors"

    def _take_residual(self, message: Message) -> None:
        """Add what a message adds to the base's weights, or take the whole of it."""
        whole = layers_with(message, WHOLE_UP, WHOLE_DOWN)
        scalings = self.layout.scalings
        if whole:
            self._residual = {
                path: Factors(message[f"{path}.{WHOLE_DOWN}"], message[f"{path}.{WHOLE_UP}"], scalings[path])
                for path in whole
            }
            self._put_beside()
            return
        more = self.aggregator.residual(message, self.layout)
        for path, factors in more.items():
            known = self._residual.get(path)
            joined = join(known and known.B, known and known.A, factors.B, factors.A)
            self._residual[path] = Factors(joined.A, joined.B, scalings[path])
        if more:
            self._put_beside()

    def _put_beside(self) -> None:
        """Lay the residual on the model as an adapter of its own that is never trained."""
        if self._beside is not None:
            self._beside.detach()
            self._beside = None
        if not self._residual:
            return
        trained = list(self.adapter.parameters())
        self._beside = attach_factors(self.plan.ranker.module, self._residual, name=BESIDE)
        for parameter in self._beside.parameters():
            parameter.requires_grad_(False)
        for parameter in trained:
            parameter.requires_grad_(True)

    def _as_one(self) -> lowrank.Adapter:
        """Return the adapter with the residual in it."""
        if not self._residual or self._beside is None:
            return self.adapter
        own, heads = factors_of(self.adapter), heads_of(self.adapter)
        total = {path: add(factors, self._residual[path]) for path, factors in own.items()}
        self._beside.detach()
        self.adapter.detach()
        return attach_factors(self.plan.ranker.module, total, heads=heads)


def open_client(
    name: str,
    recipe: RecipeFile,
    data: Collection,
    aggregator: Aggregator,
    folder: Path,
    *,
    steps: int,
    privacy: Privacy | None = None,
    ranks: ChooseRanks | None = None,
    on_progress: StageCallback = lambda what, done, total: None,
) -> Client:
    """Return a client that is ready for its first message.

    Args:
        name: Its name in the federation.
        recipe: How it trains; adapter, rank and seed must be the same for all clients.
        data: Its collection, with a training split.
        aggregator: The method.
        folder: Where it keeps its state.
        steps: How many steps it will train in all, by which its look at dev is sized.
        privacy: What is done to what leaves it.
        ranks: Returns the rank of each of the layers that would be adapted; None takes the recipe's for all.
        on_progress: It receives stages.

    Raises:
        UsageError: If the ranker cannot be federated: it has no adapter, or one whose ranks move.
    """
    data = _with_dev(data, recipe.seed)
    ranker = open_recipe_base(recipe, data)
    if not ranker.trained_by_loop or not isinstance(ranker, TrainableRanker):
        raise UsageError(f"a {ranker.kind} learns by an objective of its own, and has no adapter to federate")
    settled, budget = resolve_recipe(ranker, data, replace(recipe, judge_test=False))
    plan = build_plan(ranker, data, settled, budget, folder, None, on_progress)
    if not isinstance(plan.weights, AdapterWeights):
        raise UsageError(f"--adapter {settled.adapter.name}: a federation trains a low-rank adapter, such as lora")
    if plan.budget is not None or plan.compress is not None:
        raise UsageError("ranks that move in training cannot be federated; take --budget none")
    if ranks is not None:
        plan = _at_ranks(plan, ranks)
    assert plan.weights.adapter is not None
    aggregator.check(Layout.of(plan.weights.adapter))
    cost = lambda run: tokens_read(plan, plan.pairs_of(run), whole=True)  # noqa: E731
    looks = plan_looks(plan.data, plan.found, plan.recipe, steps, step_cost(plan), cost)
    return Client(name, plan, DevMeasure(plan, looks.sample), aggregator, folder, privacy, fresh_noise())


def fresh_noise() -> torch.Generator:
    """Return a generator seeded by the operating system, for noise that no seed of a recipe may repeat."""
    generator = torch.Generator()
    generator.seed()
    return generator


def _at_ranks(plan: Plan, ranks: ChooseRanks) -> Plan:
    """Return the plan with the adapter attached anew at other ranks."""
    weights, recipe = plan.weights, plan.recipe
    if plan.rule is not None:
        raise UsageError(f"--rule {recipe.rule.name}: methods that plan ranks per device step by AdamW; leave it out")
    assert isinstance(weights, AdapterWeights)
    chosen = ranks(list(weights.adapter.layers))
    weights.adapter.detach()
    again = AdapterWeights(plan.ranker, recipe.adapter, recipe.seed, recipe.training.head_lr, None, chosen)
    return replace(plan, weights=again, watch=None)


def _with_dev(data: Collection, seed: int) -> Collection:
    if "train" not in data.splits:
        raise UsageError(f"collection {data.name!r} has no training split, and a client of a federation trains")
    return data if "dev" in data.splits else hold_out_dev(data, 0.15, seed)


def _under(prefix: str, tensors: Message) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
