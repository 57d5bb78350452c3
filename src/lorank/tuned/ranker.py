"""A tuned ranker: a base, its adapter, the first stage it stands on, and the mix that dev chose.

The folder holds ``lorank.json`` (kind, base, options, mix), the adapter as a PEFT folder or the whole model,
and ``first_stage/`` with the collection's BM25 statistics. That of a cascade holds a second tuned ranker as
``second_stage/``, which corrects the best documents (`lorank.tuned.second_stage`).

Where a first-stage run is available (``rerank_run``), its scores are standardised per query, as in training.
Where none is (``score``, ``rank``: texts only), the folder's own statistics serve: see
`lorank.tuned.first_stage`. Either way the final score is a z + (g / s) c (`lorank.tuned.mix`).
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from lorank import lowrank, plugins
from lorank.data.collection import Collection
from lorank.errors import LorankError, UsageError
from lorank.files import replaced_folder
from lorank.lowrank import Adapter
from lorank.manifest import CARD, add_manifest, check_manifest, read_unchanged
from lorank.progress import ProgressCallback
from lorank.ranking.calibration.folder import KEY, Calibration, read_calibration
from lorank.ranking.consensus.fusion import standardise_run
from lorank.ranking.scorers.cross_encoder import CrossEncoder
from lorank.ranking.scorers.features.networks import NETWORKS
from lorank.ranking.scorers.folders import saved_options
from lorank.ranking.scorers.pretrained import locate_base
from lorank.ranking.scorers.ranker import Documents, FittedRanker, Ranked, Ranker, TrainableRanker, scores_prepared
from lorank.ranking.scorers.text_ranker import check_head_is_there
from lorank.ranking.types import Run
from lorank.tuned.first_stage import FirstStage
from lorank.tuned.mix import ALONE, Mix, mix_as_json, mix_from_json, mix_run
from lorank.tuned.policy import WrittenPolicy
from lorank.tuned.probe import Probe
from lorank.tuned.second_stage import FOLDER, SecondStage


@contextmanager
def merged(adapter: Adapter | None) -> Iterator[None]:
    """Within it the adapter is merged into the weights, which makes scoring as fast as the base's."""
    if adapter is None or adapter.merged or not adapter.mergeable:
        yield
        return
    adapter.merge()
    try:
        yield
    finally:
        adapter.unmerge()


@dataclass(frozen=True)
class Learned(Ranker):
    """The learned part of a tuned ranker: the adapted model's own scores, without the first stage."""

    ranker: FittedRanker
    adapter: Adapter | None

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return the adapted model's scores, float32 [n], with the adapter merged while it works.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents, or their feature rows [documents, features].
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of units that are scored and their total.
        """
        with merged(self.adapter):
            return self.ranker.score_pairs(queries, documents, pairs, on_progress=on_progress)

    def score_prepared(self, inputs: Any, pairs: np.ndarray, on_progress: ProgressCallback | None = None) -> np.ndarray:
        """Return the adapted model's scores of texts that it has prepared, with the adapter merged while it works.

        Raises UsageError where the ranker scores texts only.
        """
        if not scores_prepared(self.ranker):
            raise UsageError(f"a ranker of {self.ranker.kind} scores texts only")
        with merged(self.adapter):
            return self.ranker.score_prepared(inputs, pairs, on_progress)


@dataclass
class TunedRanker(Ranker):
    """A trained ranker that scores new data; see the module's text for what its scores are."""

    ranker: FittedRanker
    adapter: Adapter | None = None
    first_stage: FirstStage | None = None
    mix: Mix = ALONE
    gain: list[dict[str, Any]] = field(default_factory=list)
    """What training gained on dev and test over the untuned base, as `lorank.training.gain` records it."""
    notes: list[str] = field(default_factory=list)
    """What a run says of itself beside that: an update that hardly moved the weights."""
    folder: Path | None = field(default=None, compare=False, repr=False)
    """Where it was loaded from; None for one that was made or opened otherwise."""
    calibration: Calibration | None = None
    """What turns its scores into probabilities, where `lorank calibrate` has fitted one."""
    dev: dict[str, Any] = field(default_factory=dict)
    """The value on dev by which the mix was chosen, and what it was measured on (`lorank.training.dev`)."""
    policy: WrittenPolicy | None = None
    """How it orders documents by written replies, of a language model that was trained by reward."""
    second_stage: "SecondStage[TunedRanker] | None" = None
    """What corrects the best documents of a list, where the ranker is a cascade."""

    @property
    def learned(self) -> Learned:
        """The learned part alone, of a cascade that of its first ranker."""
        return Learned(self.ranker, self.adapter)

    def run_on(self, path: str) -> None:
        """Score by a path of `lorank.ranking.scorers.paths` from now on, with the adapter merged for good.

        Raises UsageError for rankers that are no cross-encoders, and for paths that are not to be had here.
        """
        from lorank.ranking.scorers.paths import run_on

        if self.second_stage is not None:
            self.second_stage.ranker.run_on(path)
            return
        self.check_paths(path)
        self.merge()
        run_on(cast(CrossEncoder, self.ranker), path)

    @property
    def trainable(self) -> TrainableRanker:
        """The ranker with a torch module that the training loop drives; UsageError where it is of another kind."""
        if isinstance(self.ranker, TrainableRanker):
            return self.ranker
        raise UsageError(f"a ranker of {self.ranker.kind} has no torch module to adapt or export")

    def merge(self) -> None:
        """Write the update into the weights, where one matrix stands for it; scoring is then as fast as the base's.

        Scoring does this at its first call and leaves it so. `unmerge` puts the base's own weights back, bit by bit.
        """
        switched = self.policy is not None and self.policy.best_of > 0  # it writes without the adapter, scores with it
        if self.adapter is not None and self.adapter.mergeable and not self.adapter.merged and not switched:
            self.adapter.merge()

    def unmerge(self) -> None:
        """Put the base's own weights back, so that the adapter can be trained, saved or combined."""
        if self.adapter is not None:
            self.adapter.unmerge()

    def check_paths(self, path: str) -> None:
        """Raise UsageError where this ranker has no choice of paths; that of a cascade is its second ranker's."""
        if self.second_stage is not None:
            self.second_stage.ranker.check_paths(path)
        elif not isinstance(self.ranker, CrossEncoder):
            raise UsageError(f"path {path!r}: a {self.ranker.kind} has no choice of paths; only cross-encoders have")

    def refuse_cascade(self, what: str) -> None:
        """Raise UsageError where this is a cascade, and ``what`` is done with one ranker."""
        if self.second_stage is not None:
            raise UsageError(
                f"a cascade of two rankers cannot be {what}; its run folder holds each of them, bi-encoder/ and "
                "cross-encoder/: give one of these"
            )

    def score_pairs(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return the scores, float32 [n]; the first-stage score comes from the folder's own statistics.

        Of a cascade the pairs of a query are one list, whose best documents the second ranker corrects.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents, or their feature rows [documents, features].
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of units that are scored and their total.
        """
        mixed = self.score_mixed(queries, documents, pairs, on_progress)
        if self.second_stage is None:
            return mixed
        return self.second_stage.correct_pairs(queries, documents, pairs, mixed, on_progress)

    def score_mixed(
        self,
        queries: Sequence[str],
        documents: Documents,
        pairs: np.ndarray,
        on_progress: ProgressCallback | None = None,
    ) -> np.ndarray:
        """Return the mixed scores, float32 [n], which are the scores where there is no second stage.

        Args:
            queries: The texts of the queries.
            documents: The texts of the documents, or their feature rows [documents, features].
            pairs: The int64 [n, 2] positions in ``queries`` and ``documents``, one row per pair.
            on_progress: It receives the number of units that are scored and their total.
        """
        self.merge()
        if self.policy is not None:
            return self.policy.score_pairs(self.ranker, queries, list(documents), pairs, on_progress)
        first_stage = None
        if self.mix.first_stage != 0.0 and self.first_stage is not None:
            first_stage = self.first_stage.score_pairs(queries, list(documents), pairs)
        if self.mix.weight == 0.0 and first_stage is not None:
            return (self.mix.first_stage * first_stage).astype(np.float32)
        learned = self.learned.score_pairs(queries, documents, pairs, on_progress=on_progress)
        return np.asarray(self.mix.apply(first_stage, learned), np.float32)

    def score(self, query: str, documents: Documents, *, raw: bool = False) -> np.ndarray:
        """Return one float32 number a document, in the order given; higher is more relevant.

        It is the probability of relevance where the ranker has a calibration, and else the score, as with ``raw``.
        """
        scores = super().score(query, documents)
        return scores if raw or self.calibration is None else self.calibration(scores)

    def rank(self, query: str, documents: Sequence[str], top: int | None = None, *, raw: bool = False) -> list[Ranked]:
        """Return the documents best first (ties in the order given), at most ``top`` of them.

        Args:
            query: The query.
            documents: The texts of the documents.
            top: The most documents that are returned; None returns all.
            raw: True gives scores even where a calibration gives probabilities.
        """
        documents = list(documents) if not isinstance(documents, str) else documents
        scores = self.score(query, documents, raw=True)
        shown = scores if raw or self.calibration is None else self.calibration(scores)
        order = np.argsort(-scores, kind="stable")[:top]
        return [Ranked(int(i), float(shown[i]), documents[i]) for i in order]

    def save(self, folder: str | Path) -> None:
        """Write the folder in one step, re-open what was written, and compare it."""
        self.unmerge()
        with replaced_folder(Path(folder)) as partial:
            if self.adapter is None:
                self.ranker.save(partial / "model")
            else:
                self.adapter.save(
                    partial / "adapter",
                    base_name=str(self.ranker.base),
                    probe=Probe(self.trainable) if hasattr(self.ranker, "probe") else None,
                )
            if self.first_stage is not None:
                self.first_stage.save(partial / "first_stage")
            description = {
                "format": 1,
                "kind": self.ranker.kind,
                "base": None if self.adapter is None else self.ranker.base,
                "options": {} if self.adapter is None else self.ranker.options(),
                "mix": mix_as_json(self.mix),
                "gain": self.gain,
                "dev": self.dev,
                "scale": "logit",
            }
            if self.second_stage is not None:
                self.second_stage.ranker.save(partial / FOLDER)
                description[FOLDER] = self.second_stage.describe()
            if self.policy is not None:
                description["policy"] = self.policy.to_dict()
            if self.calibration is not None:
                description[KEY] = self.calibration.to_dict()
            imports = self._modules_of_plugins()
            if imports:
                description["imports"] = imports
            (partial / CARD).write_text(json.dumps(description, indent=1, allow_nan=False) + "\n")
            add_manifest(partial)

    def _modules_of_plugins(self) -> dict[str, str]:
        """Return the modules outside lorank that this ranker's class, network and forms come from."""
        network = NETWORKS.get(getattr(self.ranker, "model", ""))
        forms = [] if self.adapter is None else [type(form) for form in self.adapter.forms.values()]
        return plugins.modules_of(type(self.ranker), *([] if network is None else [network.build]), *forms)

    @classmethod
    def load(cls, folder: str | Path) -> "TunedRanker":
        """Read a folder that ``save`` wrote, or a run folder that holds one as ``model/``.

        Raises DataError where its files are not those of one save.
        """
        return read_unchanged(Path(folder), lambda folder: read_unchanged(find_tuned_folder(folder), cls._load))

    @classmethod
    def _load(cls, home: Path) -> "TunedRanker":
        from lorank.ranking.scorers import RANKERS

        description = json.loads((home / CARD).read_text())
        check_manifest(home, description.get("files"), home / CARD)
        plugins.import_named(description.get("imports", {}), home)
        kind = RANKERS[description["kind"]]
        adapter = None
        if description["base"] is None:
            ranker = kind.load(home / "model")
        else:
            ranker = kind(locate_base(description["base"], home), **saved_options(description))
            adapter = lowrank.load(ranker.module, home / "adapter")
            check_head_is_there(ranker, [*adapter.trained, *adapter.forms], home / "adapter")
            ranker.reference = adapter.disabled
        first_stage = FirstStage.load(home / "first_stage") if (home / "first_stage").is_dir() else None
        mix, gain = mix_from_json(description["mix"]), description.get("gain", [])
        calibration, dev = read_calibration(home / CARD), description.get("dev", {})
        policy = WrittenPolicy.of(description.get("policy"))
        second = None
        if FOLDER in description:
            second = SecondStage.of(description[FOLDER], cls._load(home / FOLDER))
        return cls(
            ranker,
            adapter,
            first_stage,
            mix,
            gain,
            folder=home,
            dev=dev,
            calibration=calibration,
            policy=policy,
            second_stage=second,
        )


def find_tuned_folder(folder: Path) -> Path:
    """Return the folder that holds ``lorank.json`` of a tuned ranker: itself, or its ``model/``."""
    for home in (folder / "model", folder):
        if (home / "lorank.json").is_file() and ((home / "adapter").is_dir() or (home / "model").is_dir()):
            return home
    raise LorankError(
        f"{folder}: holds no tuned ranker (no lorank.json with an adapter or a model); "
        "give the --out folder of `lorank train`"
    )


def score_run(
    ranker: Ranker,
    collection: Collection,
    queries: dict[str, str],
    candidates: Run,
    on_progress: ProgressCallback | None = None,
) -> Run:
    """Return the ranker's own scores for the candidates, as a run.

    Args:
        ranker: The ranker that scores.
        collection: The collection that holds the documents.
        queries: The text of each query, by id; those without candidates are left out.
        candidates: The documents to score for each query; their scores are not used.
        on_progress: It receives the number of units that are scored and their total.
    """
    names = [q for q in queries if candidates.get(q)]
    listed = [(i, document) for i, query in enumerate(names) for document in candidates[query]]
    used = sorted({collection.position[document] for _, document in listed})
    place = {position: i for i, position in enumerate(used)}
    pairs = np.array([(i, place[collection.position[document]]) for i, document in listed], np.int64).reshape(-1, 2)
    documents = (
        collection.documents[used]
        if isinstance(collection.documents, np.ndarray)
        else [collection.documents[i] for i in used]
    )
    scores = ranker.score_pairs([queries[q] for q in names], documents, pairs, on_progress=on_progress)
    run: Run = {query: {} for query in names}
    for (i, document), score in zip(listed, scores.tolist(), strict=True):
        run[names[i]][document] = score
    return run


def rerank_run(
    ranker: Ranker,
    collection: Collection,
    queries: dict[str, str],
    candidates: Run,
    on_progress: ProgressCallback | None = None,
) -> Run:
    """Return the candidates reranked; a tuned ranker takes the run's own scores as its first stage.

    Args:
        ranker: The ranker that scores.
        collection: The collection that holds the documents.
        queries: The text of each query, by id; those without candidates are left out.
        candidates: The first-stage scores of the documents to rerank for each query.
        on_progress: It receives the number of units that are scored and their total.
    """
    if not isinstance(ranker, TunedRanker) or ranker.policy is not None:
        return score_run(ranker, collection, queries, candidates, on_progress)
    mixed = _mix_candidates(ranker, collection, queries, candidates, on_progress)
    second = ranker.second_stage
    if second is None:
        return mixed
    learned = second.ranker.learned
    return second.correct_run(mixed, lambda best: score_run(learned, collection, queries, best, on_progress))


def _mix_candidates(
    ranker: TunedRanker,
    collection: Collection,
    queries: dict[str, str],
    candidates: Run,
    on_progress: ProgressCallback | None,
) -> Run:
    known = {q: candidates[q] for q in queries if candidates.get(q)}
    if ranker.mix.first_stage == 0.0:
        learned = score_run(ranker.learned, collection, queries, known, on_progress)
        return {q: {d: ranker.mix.factor * s for d, s in row.items()} for q, row in learned.items()}
    standardised = standardise_run(known)
    if ranker.mix.weight == 0.0:
        return standardised
    learned = score_run(ranker.learned, collection, queries, known, on_progress)
    return mix_run(ranker.mix, standardised, learned)
