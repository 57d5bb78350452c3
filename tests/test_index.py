"""The index of names is what the registries hold, and every catalogued method is reached or says why not."""

import json
import re
import subprocess
import sys

import pytest
import typer

import lorank
from lorank import catalogue, index, plugins
from lorank.cli.app import app
from lorank.errors import UsageError
from lorank.reach import WAYS, reach


def registries():
    from lorank.continual import METHODS
    from lorank.data.load import PACKAGED
    from lorank.federated import AGGREGATORS
    from lorank.lowrank import DYNAMIC, EXPORTS, FACTORED, PRESETS, RULES, SCALINGS, STARTS, STATIC
    from lorank.lowrank.algebra import COMBINATIONS
    from lorank.lowrank.compression import COMPRESSIONS
    from lorank.lowrank.forms.form import FORMS, ROUTED
    from lorank.lowrank.projected import PRESETS as OPTIMIZERS
    from lorank.lowrank.shrink import POLICIES, SHRINKERS
    from lorank.ranking import clicks, consensus, losses, strategies
    from lorank.ranking.calibration import CALIBRATORS, NORMALISATIONS
    from lorank.ranking.clicks import debias
    from lorank.ranking.clicks.estimators import ESTIMATORS
    from lorank.ranking.clicks.interleaving import INTERLEAVINGS
    from lorank.ranking.fairness import FAIRNESS_MEASURES
    from lorank.ranking.policies.advantages import ADVANTAGES
    from lorank.ranking.policies.credits import CREDITS
    from lorank.ranking.policies.mixes import MIXES
    from lorank.ranking.policies.plans import PLANS
    from lorank.ranking.policies.presets import POLICIES as WRITTEN
    from lorank.ranking.policies.reuse import REUSES
    from lorank.ranking.policies.rewards import REWARDS
    from lorank.ranking.robustness import PERTURBATIONS
    from lorank.ranking.scorers import RANKERS
    from lorank.ranking.scorers.causal_views import READERS
    from lorank.ranking.scorers.features import feature_models
    from lorank.ranking.scorers.paths.path import PATHS

    return {
        "adapter": {*PRESETS, *FORMS, *ROUTED},
        "compression": set(COMPRESSIONS),
        "continual": set(METHODS),
        "factored": set(FACTORED),
        "form": {*FORMS, *ROUTED},
        "start": set(STARTS),
        "budget": {*DYNAMIC, *STATIC},
        "rule": set(RULES),
        "optimizer": set(OPTIMIZERS),
        "scaling": set(SCALINGS),
        "combination": set(COMBINATIONS),
        "export": set(EXPORTS),
        "loss": {*losses.LOSSES, *losses.ALIASES},
        "shrink": set(SHRINKERS),
        "rank-policy": set(POLICIES),
        "strategy": {*strategies.STRATEGIES, *strategies.MODEL_STRATEGIES, *strategies.ALIASES},
        "consensus": {*consensus.RULES, *consensus.ALIASES},
        "kind": set(RANKERS),
        "view": set(READERS),
        "path": set(PATHS),
        "policy": set(WRITTEN),
        "advantage": set(ADVANTAGES),
        "sampling-plan": set(PLANS),
        "reward-mix": set(MIXES),
        "reuse": set(REUSES),
        "credit": set(CREDITS),
        "reward": set(REWARDS),
        "click-model": {*clicks.CLICK_MODELS, *clicks.core.model.ALIASES},
        "propensity": set(clicks.PROPENSITIES),
        "estimator": set(ESTIMATORS),
        "interleaving": set(INTERLEAVINGS),
        "debias": {*debias.DEBIASERS, *debias.ALIASES},
        "feature-model": set(feature_models()),
        "collection": set(PACKAGED),
        "calibrator": set(CALIBRATORS),
        "perturbation": set(PERTURBATIONS),
        "fairness-measure": set(FAIRNESS_MEASURES),
        "normalisation": set(NORMALISATIONS),
        "aggregator": set(AGGREGATORS),
    }


@pytest.fixture(scope="module")
def known():
    catalogue.load_all()
    return registries()


@pytest.mark.parametrize("family", sorted({*index.TABLES, *index.FAMILY_OF.values(), "adapter", "consensus"}))
def test_the_index_has_the_names_of_the_registry(known, family):
    if family in ("base", "first-stage", "judge", "engine"):
        assert index.names(family)
        return
    assert set(index.names(family)) == known[family] - plugins.REGISTERED.get(family, set())


def test_the_index_has_the_catalogue_as_an_import_fills_it():
    loaded = [method for method in lorank.methods() if method.location.startswith("lorank.")]
    assert index.methods() == loaded


def test_methods_are_all_there_in_any_process():
    code = "import lorank, json; print(json.dumps([m.id for m in lorank.methods()]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [method.id for method in lorank.methods()]


@pytest.mark.parametrize("method", index.methods(), ids=lambda method: method.id)
def test_every_method_is_reached_three_ways_or_says_why_not(method):
    ways = reach(method)
    assert ways is not None, (
        f"{method.id} belongs to no family that is chosen by name; say in catalogued(..., reach=...) how it is "
        "called, and why no recipe key or command reaches it"
    )
    assert ways.python
    assert (ways.recipe and ways.command) or len(ways.why_not) > 20


def stated_commands(text):
    """The commands of a sentence, each as its words."""
    return [
        found.split() for found in re.findall(r"lorank ((?:[a-z][\w-]*|--[\w-]+|[^\s;`,()]+)(?: [^\s;`,()]+)*)", text)
    ]


def resolve_command(words):
    """The command that the words name, and the words that are left for it."""
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("method", [m for m in index.methods() if "lorank " in m.reach], ids=lambda method: method.id)
def test_a_command_that_a_method_states_exists_with_its_options(method):
    commands = stated_commands(method.reach)
    assert commands
    for words in commands:
        command, rest = resolve_command(words)
        assert not hasattr(command, "commands"), f"{method.id}: lorank {' '.join(words)} is no command"
        options = {name for parameter in command.params for name in parameter.opts}
        unknown = [word for word in rest if word.startswith("--") and word.rstrip(".:") not in options]
        assert not unknown, f"{method.id}: lorank {' '.join(words)} has no {unknown}"


@pytest.mark.parametrize("family", WAYS)
def test_a_slip_of_the_pen_is_met_with_the_nearest_name(family):
    name = max(index.names(family), key=len)
    with pytest.raises(UsageError, match=rf"--x: unknown .*did you mean '{name}'"):
        index.check(family, name[:-2] + name[-1] + name[-2] + "q", "--x")


COMMANDS = [
    "train",
    "methods",
    "methods --json",
    "methods --reach",
    "train --data pydocs --base minilm --out x --loss softmx",
    "train --data pydocs --base minlm --out x",
    "train --data pydocs --base minilm --out x --adapter lorra",
    "train --data pydocs --base minilm --out x --start svdd",
    "train --data pydocs --base minilm --out x --scaling rslra",
    "train --data pydocs --base minilm --out x --budget adalor",
    "train --data pydocs --base minilm --out x --rule lora-pls",
    "train --data pydocs --base minilm --out x --kind biencoder",
    "train --data pydocs --base minilm --out x --view yesno",
    "train --data pydocs --base minilm --out x --precision bf61",
    "train --data pydocs --base minilm --out x --offset bm52",
    "train --data pydocs --base minilm --out x --free-queries titels",
    "train --data pydcs --base minilm --out x",
    "train --data no/such/folder --base minilm --out x",
    "pretrain --base minilm --out x",
    "pretrain --texts pydcs --base minilm --out x",
    "pretrain --texts pydocs --base minlm --out x",
    "pretrain --texts pydocs --base minilm --out x --method sltrian",
    "rerank --data pydocs --out x --judge oracle --strategy slidng",
    "rerank --data pydocs --out x --judge oracl",
    "rerank --data pydocs --out x --ranker y --path torch-int9",
    "rerank --data pydocs --out x --ranker y --engine rey",
    "retrieve --data pydocs --out x --ranker minlm",
    "aggregate --method bordaa --run a --out b",
    "adapter average a b --out c --method tiees",
    "adapter export a --out c --format pfet",
    "adapter list --axis rnk",
    "serve --base minlm",
    "serve --base minilm --kind crossencoder",
    "depth --data pydcs --run a --ranker minilm",
    "evaluate --run a --data pydcs",
    "evaluate --run a --data pydocs --groups relevnt",
]
HELP = ["", "train", "retrieve", "rerank", "rank", "serve", "key", "evaluate", "aggregate", "report", "depth"]
HELP += [
    "pretrain",
    "inspect",
    "plan",
    "methods",
    "demo",
    "adapter",
    "adapter list",
    "adapter merge",
    "adapter average",
]

IN_ONE_PROCESS = """
import contextlib, io, json, sys
from lorank.cli import main
rows = []
for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["lorank", *line.split()]
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    heavy = [name for name in ("torch", "transformers", "jax", "bm25s") if name in sys.modules]
    rows.append([line, code, out.getvalue(), err.getvalue(), heavy])
json.dump(rows, sys.stdout)
"""


def said(lines):
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS], input=json.dumps(lines), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def test_names_and_help_need_no_torch():
    for line, code, out, err, heavy in said([*COMMANDS, *(f"{name} --help".strip() for name in HELP)]):
        assert heavy == [], f"lorank {line} imported {heavy}"
        if line.startswith("methods") or line.endswith("--help"):
            assert (code, bool(out)) == (0, True), line
        else:
            assert code == 2, f"lorank {line}: {code} {err}"
            assert "known: " in err or "did you mean" in err or "no data" in err or "there is nothing at" in err, err


def test_a_recipe_is_checked_before_its_data_is_read(tmp_path):
    recipes = {
        "adaptr = 1": "did you mean 'adapter'",
        "[adapter]\nrnk = 3": "did you mean 'rank'",
        "[loss]\nname = 'softmx'": "did you mean 'softmax'",
        "[training]\ndecay = 'linaer'": "training.decay",
        "[lists]\nfree_queries = 'titels'": "lists.free_queries",
    }
    files = [tmp_path / f"r{number}.toml" for number in range(len(recipes))]
    for file, text in zip(files, recipes, strict=True):
        file.write_text(f'data = "pydocs"\nout = "x"\n{text}\n')
    rows = said([f"train {file}" for file in files])
    for (_, code, _, err, _), file, expected in zip(rows, files, recipes.values(), strict=True):
        assert (code, str(file) in err, expected in err) == (2, True, True), err


@pytest.mark.parametrize(
    ("recipe", "named"),
    [
        ("[loss]\nname = 'ranknet'\noptions = { sgma = 1.0 }", "did you mean 'sigma'"),
        ("[budget]\nname = 'adalora'\noptions = { evry = 3 }", "did you mean 'every'"),
        ("[rule]\nname = 'lora-plus'\noptions = { ratoi = 3 }", "ratoi"),
        ("[adapter]\nname = 'gralora'\n[budget]\nname = 'adalora'", "cannot work on adapter"),
        ("[adapter]\nname = 'dora'\nstart = 'lora-sb'", "does not suit"),
        ("[options]\ntrees = 3", "only feature models take options"),
    ],
)
def test_options_of_methods_are_checked_without_data(tmp_path, recipe, named):
    from lorank.training.checks import check_options
    from lorank.training.recipe import read_recipe

    (tmp_path / "r.toml").write_text(f'base = "minilm"\n{recipe}\n')
    with pytest.raises(UsageError, match=named):
        check_options(read_recipe(tmp_path / "r.toml"))
