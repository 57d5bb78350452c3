"""Module paths of 0.1, so that code written for it still imports: each old name is the new module itself.

An old path warns with the new one and goes away in 0.4. Nothing in lorank imports through this table.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType

MOVED = {
    "training.tuned": "tuned.ranker",
    "training.first_stage": "tuned.first_stage",
    "training.mix": "tuned.mix",
    "training.probe": "tuned.probe",
    "training.make": "tuned.open_ranker",
    "training.exporting": "tuned.export",
    "training.rewriting": "tuned.rewrite",
    "serving.cluster": "tuned.ray_rerank",
    "training.own_objective": "training.self_fitting",
    "training.run_state": "training.loop.run_state",
    "training.checkpoints": "training.loop.checkpoints",
    "training.schedule": "training.loop.schedule",
    "training.candidates": "training.lists.candidates",
    "training.retrieval": "training.lists.retrieval",
    "training.batches": "training.lists.batches",
    "training.list_loss": "training.lists.list_loss",
    "training.extras": "training.lists.loss_inputs",
    "training.calibration": "training.lists.calibration_pass",
    "training.budgeting": "training.hooks.budget",
    "training.stepping": "training.hooks.rule",
    "training.telling": "training.hooks.routing",
    "training.fast_slow": "training.hooks.ofs_dpo",
    "training.keep_last": "training.hooks.keep_last",
    "training.combat": "training.methods.sparta",
    "training.in_context": "training.methods.rewards_in_context",
    "training.continuations": "training.methods.rankgen",
    "training.cross_domain": "training.methods.cofs",
    "training.transfer": "training.methods.trans_lora",
    "serving.opening": "serving.start",
    "serving.app": "serving.http.app",
    "serving.intake": "serving.http.middleware",
    "serving.server": "serving.http.server",
    "serving.service": "serving.requests.service",
    "serving.batcher": "serving.requests.batcher",
    "serving.waiting": "serving.requests.queue",
    "serving.score_cache": "serving.requests.score_cache",
    "serving.keys": "serving.requests.keys",
    "serving.limits": "serving.requests.limits",
    "serving.metrics": "serving.requests.metrics",
    "serving.refusal": "serving.requests.refusal",
    "serving.schemas": "serving.requests.schemas",
    "serving.answers": "serving.requests.answers",
    "serving.engine": "serving.requests.engine",
    "serving.store": "serving.adapters.store",
    "serving.source": "serving.adapters.source",
    "serving.package": "serving.adapters.package",
    "serving.calibration": "ranking.calibration.folder",
    "serving.bank": "serving.forward.engine",
    "serving.mixed": "serving.forward.mixed",
    "serving.rows": "serving.forward.rows",
    "serving.segments": "serving.forward.segments",
    "serving.products": "serving.forward.products",
    "serving.grouping": "serving.forward.grouping",
    "serving.pool": "serving.forward.page_pool",
    "serving.residents": "serving.forward.lru",
    "serving.shelf": "serving.forward.loader",
    "serving.opened": "serving.forward.loaded_adapter",
    "serving.dominant": "serving.forward.merged_copy",
    "serving.path_choice": "serving.forward.path_choice",
    "serving.activated": "serving.forward.activated",
    "ranking.losses.lists": "ranking.losses.core.lists",
    "ranking.losses.pairs": "ranking.losses.core.pairs",
    "ranking.losses.packed": "ranking.losses.core.packed",
    "ranking.losses.registry": "ranking.losses.core.registry",
    "ranking.losses.derivatives": "ranking.losses.core.derivatives",
    "ranking.losses.known_gradient": "ranking.losses.core.known_gradient",
    "ranking.losses.grade_blocks": "ranking.losses.core.grade_blocks",
    "ranking.losses.sorting_network": "ranking.losses.core.sorting_network",
    "ranking.losses.order_likelihood": "ranking.losses.core.order_likelihood",
    "ranking.losses.learning": "ranking.losses.core.learning",
    "ranking.losses.noise": "ranking.losses.core.noise",
    "lowrank.staging": "files",
    "lowrank.budgets.budget": "lowrank.budgets.core.budget",
    "lowrank.budgets.growing": "lowrank.budgets.core.growing",
    "lowrank.budgets.layer_gates": "lowrank.budgets.core.layer_gates",
    "lowrank.budgets.orthogonality": "lowrank.budgets.core.orthogonality",
    "lowrank.budgets.pruning": "lowrank.budgets.core.pruning",
    "lowrank.budgets.settle": "lowrank.budgets.core.settle",
    "lowrank.budgets.sensitivity": "lowrank.budgets.core.sensitivity",
}
"""Old module path to new, both below ``lorank.``."""


class MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module of 0.1 under its old path and hands out the module that took its place."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return a spec for an old path, and nothing for any other."""
        if fullname.removeprefix("lorank.") not in MOVED or not fullname.startswith("lorank."):
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the module at its new place, with a warning that names it."""
        new = f"lorank.{MOVED[spec.name.removeprefix('lorank.')]}"
        warnings.warn(f"{spec.name} is now {new}", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own spec back; its code ran when the new path was imported."""
        if module.__spec__ is not None:
            module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Let Python look here for what it finds nowhere else."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
