"""What a run folder holds, read and checked: results, metrics, the run's record, examples, queries and the budget."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, NonNegativeInt, TypeAdapter, ValidationError

from lorank.errors import DataError
from lorank.ranking.metrics.evaluation import Evaluation
from lorank.reporting.attention_card import AttentionCard
from lorank.reporting.continual_part import CONTINUAL, ContinualCard
from lorank.reporting.order_part import AGREEMENT, SHRINK, AgreementCard, ShrinkCard

Scalar = str | int | float | bool | None
Checked = TypeVar("Checked")

RESULTS, METRICS, RUN, EXAMPLES = "results.json", "metrics.jsonl", "run.json", "examples.json"
BUDGET, QUERIES, SPECTRA = "budget.jsonl", "queries.json", "spectra.json"


class Part(BaseModel):
    """A part of a run folder: fields that it does not know are ignored, so newer runs stay readable."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class AdaptedLayer(Part):
    """One adapted weight: its dotted ``path``, its ``rank``, its ``shape`` [out, in], norms of update and weight."""

    path: str
    rank: NonNegativeInt
    shape: list[NonNegativeInt] = []
    update_norm: float | None = None
    weight_norm: float | None = None


class AdapterCard(Part):
    """What was trained: the form's name, rank, scale, counts of parameters, bytes on disk, layers."""

    name: str = ""
    rank: int | None = None
    alpha: float | None = None
    trained_parameters: NonNegativeInt | None = None
    total_parameters: NonNegativeInt | None = None
    bytes: NonNegativeInt | None = None
    moved: float | None = None
    layers: list[AdaptedLayer] = []


class CollectionCard(Part):
    """What was searched: counts of documents and of queries a split, and the collection's own card."""

    name: str = ""
    documents: NonNegativeInt | None = None
    queries: dict[str, NonNegativeInt] = {}
    card: str = ""


class Mix(Part):
    """How the learned score joins the first stage: dev values [weight, value], the weight "inf" being it alone."""

    first_stage: Any = None
    first_stage_weight: float | None = None
    weight: float | None = None
    dev_curve: list[tuple[float, float]] = []


class GainCard(Part):
    """What training gained on one split over the untuned base in the same mix, in numbers and as a sentence."""

    split: str
    queries: NonNegativeInt | None = None
    groups: NonNegativeInt | None = None
    first_stage: float | None = None
    untuned: float | None = None
    tuned: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None
    outcome: str = ""
    sentence: str = ""


class DevCard(Part):
    """The value on dev by which a run decided: its name, which holds the depth, and what it was measured on."""

    name: str = ""
    value: float | None = None
    queries: NonNegativeInt | None = None
    of: NonNegativeInt | None = None
    groups: NonNegativeInt | None = None
    sentence: str = ""


class OutcomeCard(Part):
    """How the training loop ended."""

    train_seconds: float | None = None


class EstimateCard(Part):
    """What the run was expected to take before its first step."""

    seconds: float | None = None
    dev_share: float | None = None
    sentence: str = ""


class TimeCard(Part):
    """What the run took: how often it looked at dev, and the share of the time that this took."""

    looks: NonNegativeInt | None = None
    dev_share: float | None = None


class FoldCard(Part):
    """One fold of a cross-validation: its queries, the steps that it chose, and its gain over the untuned base."""

    fold: NonNegativeInt
    queries: NonNegativeInt | None = None
    groups: NonNegativeInt | None = None
    steps: NonNegativeInt | None = None
    best_step: NonNegativeInt | None = None
    weight: float | None = None
    gain: GainCard | None = None


class DebiasCard(Part):
    """How clicks were weighed: the debiaser, and its curve by position from 1, relative to the first."""

    name: str = ""
    what: str = "propensity"
    curve: list[float] | None = None


class StepCard(Part):
    """One step of a cascade: what dev says with it, what it gained over the step before, what it costs a query."""

    name: str
    value: float | None = None
    interval: tuple[float, float] | None = None
    gain: float | None = None
    gain_interval: tuple[float, float] | None = None
    p: float | None = None
    documents: float | None = None
    seconds: float | None = None
    kept: bool = True
    sentence: str = ""


class CascadeCard(Part):
    """The steps of a cascade, in their order."""

    steps: list[StepCard] = []


class RunCard(Part):
    """Everything needed to run it again; every part may be absent."""

    lorank: str | None = None
    command: str | None = None
    created: str | None = None
    seed: int | None = None
    machine: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    adapter: AdapterCard | None = None
    collection: CollectionCard | None = None
    packages: dict[str, str] = {}
    mix: Mix | None = None
    gain: list[GainCard] = []
    dev: DevCard | None = None
    estimate: EstimateCard | None = None
    outcome: OutcomeCard | None = None
    time: TimeCard | None = None
    folds: list[FoldCard] = []
    made: str = ""
    debias: DebiasCard | None = None
    cascade: CascadeCard | None = None


class TrainingStep(Part):
    """One line of the training log: a step's ``loss`` and ``lr``, or the dev measures after it."""

    step: NonNegativeInt
    epoch: float | None = None
    loss: float | None = None
    lr: float | None = None
    seconds: float | None = None
    dev: dict[str, float] | None = None


class BudgetEvent(Part):
    """One line of the budget's journal: the ``ranks`` of all layers, by path, after ``step`` steps."""

    step: NonNegativeInt
    ranks: dict[str, NonNegativeInt]


class SpectrumOfLayer(Part):
    """The update of one layer: its rank and how much of it is in use."""

    path: str
    rank: NonNegativeInt = 0
    effective_rank: float = 0.0


class IntruderCard(Part):
    """Directions that the base did not have: (threshold, count), among ``looked_at`` leading ones."""

    looked_at: NonNegativeInt = 0
    curve: list[tuple[float, NonNegativeInt]] = []


class RankCard(Part):
    """RankMe of the vectors of documents."""

    value: float
    dimensions: NonNegativeInt
    texts: NonNegativeInt


class SpectrumOfQuery(Part):
    """The spectrum of one training query's gradient."""

    id: str
    text: str = ""
    nuclear_norm: float
    effective_rank: float
    loss: float


class SpectraCard(Part):
    """What `lorank inspect --save` keeps."""

    layers: list[SpectrumOfLayer] = []
    intruders: IntruderCard | None = None
    rankme: RankCard | None = None
    attention: AttentionCard | None = None
    queries: list[SpectrumOfQuery] = []


class ListedDocument(Part):
    """A document in a shown list; ``relevance`` is None where nobody judged it."""

    id: str
    title: str = ""
    snippet: str = ""
    score: float | None = None
    relevance: int | None = None


class ShownList(Part):
    """What one system answered, best first."""

    system: str
    documents: list[ListedDocument]


class Example(Part):
    """One query answered by two systems; ``change`` is the measure after minus before."""

    query_id: str
    query: str
    before: ShownList
    after: ShownList
    change: float | None = None


@dataclass(frozen=True)
class RunFolder:
    """The parts of a run folder; what the folder lacks is None or empty. ``queries`` maps query id to text."""

    path: Path
    evaluation: Evaluation | None
    training: list[TrainingStep]
    run: RunCard | None
    examples: list[Example]
    budget: list[BudgetEvent] = field(default_factory=list)
    queries: dict[str, str] = field(default_factory=dict)
    spectra: SpectraCard | None = None
    agreement: AgreementCard | None = None
    shrunk: ShrinkCard | None = None
    continual: ContinualCard | None = None


def read_run_folder(folder: Path) -> RunFolder:
    """Read a run folder.

    A missing file leaves its part empty; a malformed one raises DataError naming file, line (where the file
    has lines), key, and what was expected there. A path that is no folder, or a folder without any of its
    files, raises DataError too.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(folder, None, "is not a folder", "give the --out folder of a finished lorank run")
    if not any((folder / name).is_file() for name in (RESULTS, METRICS, RUN, EXAMPLES, AGREEMENT, SHRINK, CONTINUAL)):
        raise DataError(
            folder,
            None,
            f"holds none of {RESULTS}, {METRICS}, {RUN}, {EXAMPLES}",
            "give the --out folder of a lorank run",
        )
    evaluation = _read_json(folder / RESULTS, TypeAdapter(Evaluation), "what `lorank evaluate --json` prints")
    if evaluation is not None:
        _check_evaluation(evaluation, folder / RESULTS)
    run = _read_json(folder / RUN, TypeAdapter(RunCard), "the object a lorank run writes")
    examples = _read_json(
        folder / EXAMPLES, TypeAdapter(list[Example]), "a list of {query_id, query, before, after, change}"
    )
    training = _read_lines(folder / METRICS, TrainingStep, "an object with 'step' and either 'loss' or 'dev'")
    budget = _read_lines(folder / BUDGET, BudgetEvent, "an object with 'step' and 'ranks'")
    queries = _read_json(folder / QUERIES, TypeAdapter(dict[str, str]), "an object of query id to text")
    spectra = _read_json(folder / SPECTRA, TypeAdapter(SpectraCard), "what `lorank inspect --save` writes")
    texts = {example.query_id: example.query for example in examples or []} | (queries or {})
    agreement = _read_json(folder / AGREEMENT, TypeAdapter(AgreementCard), "what `lorank agree --json` prints")
    shrunk = _read_json(folder / SHRINK, TypeAdapter(ShrinkCard), "what `lorank shrink` writes")
    stream = _read_json(folder / CONTINUAL, TypeAdapter(ContinualCard), "what a stream of `lorank train --then` writes")
    return RunFolder(
        folder, evaluation, training, run, examples or [], budget, texts, spectra, agreement, shrunk, stream
    )


def _read_json(path: Path, shape: TypeAdapter[Checked], expected: str) -> Checked | None:
    if not path.is_file():
        return None
    return _checked(_parsed(_text(path), path, None, expected), shape, path, None, expected)


def _read_lines(path: Path, kind: type[Checked], expected: str) -> list[Checked]:
    shape = TypeAdapter(kind)
    lines = enumerate(_text(path).split("\n"), start=1) if path.is_file() else ()
    return [
        _checked(_parsed(line, path, number, expected), shape, path, number, expected)
        for number, line in lines
        if line.strip()
    ]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise DataError(path, None, f"is not UTF-8 at byte {problem.start}", "write it again as UTF-8") from problem


def _parsed(text: str, path: Path, line: int | None, expected: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        raise DataError(
            path,
            line or problem.lineno,
            f"broken JSON at column {problem.colno}: {problem.msg}",
            f"expected {expected}",
        ) from problem


def _checked(data: Any, shape: TypeAdapter[Checked], path: Path, line: int | None, expected: str) -> Checked:
    try:
        return shape.validate_python(data)
    except ValidationError as problem:
        first = problem.errors(include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"]) or "the whole"
        raise DataError(path, line, f"{key}: {first['msg']}", f"expected {expected}") from problem


def _check_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Refuse an evaluation that names systems or measures it does not hold."""
    for name, system in evaluation.systems.items():
        for part in ("mean", "interval"):
            absent = [m for m in evaluation.measures if m not in getattr(system, part)]
            if absent:
                raise DataError(
                    path,
                    None,
                    f"systems.{name}.{part} lacks {absent[0]!r}",
                    "expected one entry for each of the measures listed",
                )
    for place, comparison in enumerate(evaluation.comparisons):
        for name in (comparison.system, comparison.baseline):
            if name not in evaluation.systems:
                raise DataError(
                    path,
                    None,
                    f"comparisons.{place} names the unknown system {name!r}",
                    f"expected one of: {', '.join(evaluation.systems)}",
                )
