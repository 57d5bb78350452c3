"""Everything that decides a training run, as plain dataclasses; a recipe file has the same sections and keys."""

import functools
import warnings
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar

from lorank.tuned.reading import ReadingSettings

Option = str | int | float | bool | None

HEAD_RATE = 5e-4
"""The rate of what a checkpoint did not bring, where none is stated."""


@dataclass(frozen=True)
class AdapterSettings:
    """Which low-rank method changes the weights.

    ``name`` "full" trains every weight and "head" only what the checkpoint did not bring; "auto" is "lora" on a
    pretrained base and "full" for a ranker that starts from nothing. ``rank`` None is the form's usual one: 8, or more
    where a form has few values a rank. ``start`` and ``scaling`` replace the method's
    own; a start that reads activations or gradients gets them from ``calibration_batches`` batches of training
    lists, seen once before the first step. ``dropout`` is the adapter's own;
    ``base_dropout`` keeps the dropout that the base's layers have, which low-rank training rarely needs and which
    more than halves the speed on a CPU. Where every weight is trained the base's dropout is always on.
    """

    name: str = "auto"
    rank: int | None = None
    alpha: float | None = None
    start: str | None = None
    scaling: str | None = None
    targets: str | list[str] = "all-linear"
    exclude: list[str] = field(default_factory=list)
    dropout: float = 0.0
    base_dropout: bool = False
    calibration_batches: int = 8
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class StartSettings:
    """The options of the start that the adapter's method, or ``adapter.start``, names."""

    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class LossSettings:
    """Which loss is minimised, with its own options.

    ``reference`` says whose scores a loss that compares with a reference gets: "start" is the ranker itself before
    training, anything else the path of a run over the training queries. ``opponent`` is the cross-encoder that is
    trained against the run by a loss that asks for one: any cross-encoder by its name, or the run's base as one.
    """

    name: str = "softmax"
    options: dict[str, Option] = field(default_factory=dict)
    reference: str = "start"
    opponent: str | None = None


@dataclass(frozen=True)
class DebiasSettings:
    """How clicks are weighed, so that a ranker learns relevance and not position (`lorank.ranking.clicks`).

    ``name`` is none, ips, dla, pair, trust or cet. ``propensities`` says where those of ``ips`` come from: "auto" is
    what the log states, or else "harvest"; "log", an estimator's name, or the path of a file. Any debiaser but
    none gives the loss softmax the target "labels" where it states none, so that labels enter it linearly.
    """

    name: str = "none"
    propensities: str = "auto"
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class ListSettings:
    """What a training list holds.

    ``positives`` relevant documents and ``negatives`` others, drawn for a query anew each epoch; None means what
    suits the ranker: 1 and 1 where lists are shared, 2 and 7 where they are not, all where documents are feature
    rows. Negatives come from the best ``depth`` first-stage candidates; those that score above ``spare`` times
    the positive's score are left out as likely unjudged positives. ``shared`` lets every list of a batch hold the
    other lists' documents too (in-batch negatives); None means: where that is cheap, which is for bi-encoders.
    ``free_queries`` adds queries made from the documents themselves: of those that neither dev nor test judges
    relevant ("unjudged"), so that what they say of new documents holds, or with ``free_documents`` "all" of the whole
    collection, where its documents are known before any query is asked.
    ``negatives_from`` says whose candidates they are: "first-stage", a bi-encoder's own before training ("static") or
    as it is at each step ("live", with an adapter for queries alone), drawn by its softmax over these ("adversarial",
    for the loss ar2, likewise) or from the bin of these that a policy chooses ("adaptive", likewise), or the last of
    the candidates ("bottom"). ``spare`` inf leaves out none.
    ``teacher`` is a run over the training queries, or any ranker, whose scores are learned in the place of judgments.
    Of a click log all impressions of a query that show the same documents are one list, where loss and debiasing allow
    it; or about ``impressions`` of a query stand together in a batch, which reads their query and documents once.
    """

    positives: int | None = None
    negatives: int | None = None
    depth: int = 100
    spare: float = 0.95
    shared: bool | None = None
    free_queries: Literal["none", "titles", "first-sentences"] = "none"
    free_documents: Literal["unjudged", "all"] = "unjudged"
    negatives_from: Literal["first-stage", "static", "live", "adversarial", "adaptive", "bottom"] = "first-stage"
    teacher: str | None = None
    impressions: int | None = None


EPOCHS = 3.0
"""Passes over the lists where neither steps nor epochs are stated."""
LEAST_STEPS = 200
"""Steps that a ranker of feature rows takes at least then: three epochs of some hundred lists teach it little."""


@dataclass(frozen=True)
class OptimizerSettings:
    """The loop: steps, rates, stopping, evaluation, checkpoints.

    ``lr`` "default" is the rate that the adapter's method brings (`lorank adapter list` shows it); new heads then step
    at ``HEAD_RATE`` where ``head_lr`` is None, and at a stated ``lr`` otherwise. ``steps`` None means ``epochs`` over
    the lists; where that is None too, 3, and at least 200 steps where documents are feature rows, which cost nothing to
    read. ``precision`` "auto" is bf16 where the machine has fast products of it: then the matrix products are in
    bf16, while weights, factors and the loss stay in fp32.

    ``minutes`` bounds the wall-clock time of the run, evaluation included: the steps are as many as fit, but no more
    than ``steps`` where both are given, and ``epochs`` is not used. ``tokens`` bounds what training lists are read: the
    steps are those that read about so many tokens, likewise. ``evaluations`` (how often dev is looked at),
    ``evaluation_queries`` (how many dev queries, drawn in groups) and ``evaluation_depth`` (how many candidates of
    each) are chosen, where they are None, so that looking at dev takes about ``evaluation_share`` of the time at most
    (`lorank.training.dev_sample`).
    """

    steps: int | None = None
    minutes: float | None = None
    tokens: int | None = None
    epochs: float | None = None
    batch_size: int = 16
    accumulate: int = 1
    lr: float | Literal["default"] = "default"
    head_lr: float | None = None
    warmup: float = 0.1
    decay: Literal["linear", "cosine", "none"] = "linear"
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float | None = 1.0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    evaluations: int | None = None
    evaluation_queries: int | None = None
    evaluation_depth: int | None = None
    evaluation_share: float = 0.25
    patience: int | None = None
    checkpoint_seconds: float = 60.0

    def count_steps(self, per_epoch: int, *, features: bool) -> int:
        """Return how many steps are asked for, by number or by epochs.

        Args:
            per_epoch: The batches of an epoch.
            features: Whether documents are feature rows.

        >>> OptimizerSettings(accumulate=2).count_steps(100, features=False)
        150
        >>> [OptimizerSettings(epochs=each).count_steps(10, features=True) for each in (None, 3.0)]
        [200, 30]
        """
        if self.steps is not None:
            return self.steps
        found = max(1, round((EPOCHS if self.epochs is None else self.epochs) * per_epoch / self.accumulate))
        return max(found, LEAST_STEPS) if features and self.epochs is None else found

    @property
    def rate(self) -> float:
        """The stated rate; that of plain LoRA where a loop without a recipe states none."""
        if self.lr != "default":
            return self.lr
        from lorank.lowrank.forms import LoRA

        return LoRA.lr


@dataclass(frozen=True)
class PolicySettings:
    """How a causal language model is trained by what its written replies earn; ``name`` "none" trains by ``loss``.

    ``name`` is a policy of `lorank.ranking.policies.presets`: a kind of question, or a published recipe. "auto" and
    None leave a part as the policy has it: the ``question``, the ``reward`` (several are joined by +), the
    ``advantage``, the ``credit`` of its tokens, the sampling ``plan``, the ``mix``, the ``samples`` per prompt, the
    ``updates`` per draw and whether a bandit chooses their number (``reuse``), the ``objective`` (``clipped``,
    ``cloning`` of the labels' own reply, ``dpo``, ``process``), the bounds of the clipped ratio, the weight of the
    ``divergence`` from the model before training, and ``thinking``: whether a thought is asked for before the answer. A
    question shows ``size`` documents of a training list, ``words`` of each; replies are drawn at ``temperature`` and
    end after ``max_tokens``. A reward that judges what a generator writes takes the expected ``answers`` (JSON Lines of
    "query" and "answers"), and asks the ``generator``, a causal LM; None is the model itself before training.
    ``options`` are those of the reward, the advantage, the credit, the plan, the mix, the reuse, the objective.
    """

    name: str = "none"
    question: str = "auto"
    reward: str = "auto"
    advantage: str = "auto"
    credit: str = "auto"
    plan: str = "auto"
    mix: str = "auto"
    reuse: str = "auto"
    samples: int | None = None
    updates: int | None = None
    clip_low: float | None = None
    clip_high: float | None = None
    divergence: float | None = None
    temperature: float = 1.0
    max_tokens: int = 256
    size: int = 4
    words: int = 100
    thinking: bool | None = None
    prompts: str | None = None
    objective: Literal["auto", "clipped", "cloning", "dpo", "process"] = "auto"
    answers: str | None = None
    generator: str | None = None
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class BudgetSettings:
    """Which budget gives the layers their ranks.

    "none" leaves every layer at the adapter's rank; "auto" is the budget that the adapter's method brings, if it
    brings one. ``total`` is the sum of ranks over all layers at the end; None means the adapter's rank a layer.
    """

    name: str = "auto"
    total: int | None = None
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class RuleSettings:
    """Which rule steps the factors; "auto" is the one that the adapter's method brings, or else AdamW."""

    name: str = "auto"
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class ProjectionSettings:
    """Which optimizer steps whole weights; "auto" is AdamW, or the rule that the adapter brings.

    A projected optimizer (galore, fira, frugal, ...) goes with adapter "full", which "auto" then is. ``rank`` None is
    ``adapter.rank``, and a quarter of each matrix's shorter side where that is None too.
    """

    name: str = "auto"
    rank: int | None = None
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class CompressSettings:
    """Which method lowers the ranks of the weights while they are trained; "none" lowers none.

    Every weight is trained then (``adapter.name`` is "full"), and the trained weights are kept whatever dev says.
    """

    name: str = "none"
    targets: str | list[str] = "all-linear"
    exclude: list[str] = field(default_factory=list)
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class ContinualSettings:
    """How a ranker learns a stream of collections, one after the other (`lorank.continual`); ``name`` is its method.

    ``judge`` says what the matrix over all test sets measures: the "learned" score alone, or what is "served", which
    is the learned score in the mix with the first stage that the stage's dev chose.
    """

    name: str = "sequential"
    judge: Literal["learned", "served"] = "learned"
    options: dict[str, Option] = field(default_factory=dict)


@dataclass(frozen=True)
class CascadeSettings:
    """A cascade: after the bi-encoder of the recipe a cross-encoder, which corrects its best documents.

    ``enabled`` trains both (`lorank train --cascade`). The cross-encoder reads the ``depth`` best documents of each
    query, and is kept where it gains ``least_gain`` or more of dev nDCG@10 over the bi-encoder's mix alone, with the
    weight of its score chosen on other groups of dev queries than those that it is judged on. The settings of the
    cross-encoder itself stand under ``cross``, with the sections and keys of a recipe.
    """

    enabled: bool = False
    depth: int = 20
    least_gain: float = 0.005


@dataclass(frozen=True)
class FirstStageSettings:
    """Where the first-stage score comes from: "auto", "none", "bm25", "fusion", or the path of a run.

    "auto" is "bm25" for texts; features and training rows, which bring lists of their own, have none. The learned
    scores enter with a weight that is chosen on dev among ``grid`` (in units of their spread; 0 is the first stage
    alone, inf the ranker alone).
    """

    source: str = "auto"
    grid: tuple[float, ...] = (0.0, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, float("inf"))


Settings = TypeVar("Settings")


def accept_offset(recipe: type[Settings]) -> type[Settings]:
    """Return the recipe class, which now takes ``first_stage`` under its name of 0.1 too: ``offset``, with a warning.

    Where both are given ``offset`` holds: `dataclasses.replace` fills in ``first_stage`` by itself.
    """
    construct = vars(recipe)["__init__"]

    @functools.wraps(construct)
    def init(self: Settings, *values: Any, **named: Any) -> None:
        if "offset" in named:
            warnings.warn("offset is now first_stage", DeprecationWarning, stacklevel=2)
            named["first_stage"] = named.pop("offset")
        construct(self, *values, **named)

    setattr(recipe, "__init__", init)  # noqa: B010 - an assignment is what mypy refuses
    return recipe


@accept_offset
@dataclass(frozen=True)
class Recipe:
    """A whole training run, from the adapter, budget, rule, optimizer or compression to lists, loop, reading and seed.

    With ``judge_test`` the first stage, the untuned base and the tuned ranker are judged on the test split at the
    end, where the collection has one; nothing is chosen by it. ``keep`` "better" leaves the untuned base where training
    gained nothing on dev, "tuned" the trained weights all the same.
    """

    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    start: StartSettings = field(default_factory=StartSettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    rule: RuleSettings = field(default_factory=RuleSettings)
    optimizer: ProjectionSettings = field(default_factory=ProjectionSettings)
    compress: CompressSettings = field(default_factory=CompressSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    debias: DebiasSettings = field(default_factory=DebiasSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    lists: ListSettings = field(default_factory=ListSettings)
    training: OptimizerSettings = field(default_factory=OptimizerSettings)
    first_stage: FirstStageSettings = field(default_factory=FirstStageSettings)
    reading: ReadingSettings = field(default_factory=ReadingSettings)
    seed: int = 0
    judge_test: bool = True
    keep: Literal["better", "tuned"] = "better"

    @property
    def keeps_trained(self) -> bool:
        """Whether the trained weights are kept whatever dev says: the untuned base is not compressed."""
        return self.keep == "tuned" or self.compress.name != "none"

    @property
    def offset(self) -> FirstStageSettings:
        """The first stage under its name of 0.1."""
        warnings.warn("Recipe.offset is now Recipe.first_stage", DeprecationWarning, stacklevel=2)
        return self.first_stage


def as_plain(settings: Any) -> dict[str, Any]:
    """Return settings as JSON-ready data; infinities become the string "inf".

    >>> as_plain(FirstStageSettings(grid=(0.0, float("inf"))))
    {'source': 'auto', 'grid': [0.0, 'inf']}
    """
    from dataclasses import asdict

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(v) for v in value]
        return "inf" if value == float("inf") else value

    made: dict[str, Any] = plain(asdict(settings))
    return made


def list_changed_settings(recipe: Recipe) -> list[str]:
    """Return which settings differ from the defaults, as section.key.

    >>> list_changed_settings(Recipe(seed=3))
    ['seed']
    """
    names = []
    for section in fields(Recipe):
        ours, theirs = getattr(recipe, section.name), getattr(Recipe(), section.name)
        if is_dataclass(ours):
            names += [
                f"{section.name}.{field.name}"
                for field in fields(theirs)
                if getattr(ours, field.name) != getattr(theirs, field.name)
            ]
        elif ours != theirs:
            names.append(section.name)
    return names


def __getattr__(name: str) -> Any:
    """Return `FirstStageSettings` for its name of 0.1, with a warning."""
    if name == "OffsetSettings":
        warnings.warn("OffsetSettings is now FirstStageSettings", DeprecationWarning, stacklevel=2)
        return FirstStageSettings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
