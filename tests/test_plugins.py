"""Methods from outside lorank: one file by --import, a package by its entry point, by name everywhere."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lorank import plugins
from lorank.data import write_beir, write_letor
from lorank.errors import UsageError

EXAMPLE = Path(__file__).parent.parent / "examples" / "plugin"

MINE = '''
import numpy as np, torch
import lorank
from lorank.lowrank import Budget, Form, Rule, Start
from lorank.lowrank.forms import LoRA
from lorank.lowrank.linalg import top_k_svd
from lorank.ranking.scorers import CrossEncoder
from lorank.ranking.strategies import Standing

@lorank.form("bias-row")
class BiasRow(LoRA):
    """A LoRA by another name."""

@lorank.start("halves")
class Halves(Start):
    """Every entry of A is one half."""
    def suits(self, form): return issubclass(form, LoRA)
    def fill(self, form, site, statistics):
        with torch.no_grad():
            form.A.fill_(0.5)

@lorank.rule("slow")
class Slow(Rule):
    """SGD at the run's rate."""
    def optimizer(self, groups, adapter, rates):
        return torch.optim.SGD(groups, lr=rates.lr)

@lorank.budget("first-layer")
def first_layer(sites, statistics, total):
    """All ranks for the first layer."""
    return {site.path: (total if place == 0 else 0) for place, site in enumerate(sites)}

@lorank.budget("drop-last")
class DropLast(Budget):
    """Switch off surplus components at each event."""
    def event(self, step, steps):
        for path, form in self.forms.items():
            form.switch(torch.arange(form.components, device=form.mask.device) < self.equal_ranks(self.total)[path])

@lorank.loss("spread", requires=())
def spread(scores, labels, mask, weights=None, *, by: float = 1.0):
    """The squared distance of scores from labels."""
    return (((scores - by * labels) ** 2) * mask).sum() / mask.sum().clamp_min(1)

@lorank.strategy("as-given")
def as_given(session, top, generator):
    """No question at all."""
    return Standing(list(range(session.count)))

@lorank.consensus("by-name")
def by_name(profile):
    """Alphabetical order."""
    return -np.arange(len(profile.items), dtype=float)

@lorank.scorer("my-cross")
class MyCross(CrossEncoder):
    """A cross-encoder by another name."""

@lorank.feature_model("sum")
def build(features, generator):
    """A linear layer."""
    return torch.nn.Linear(features, 1)
'''


@pytest.fixture
def place(tmp_path, texts, rows):
    (tmp_path / "mine.py").write_text(MINE)
    write_beir(texts, tmp_path / "beir")
    write_letor(rows, tmp_path / "rows")
    return tmp_path


IN_ONE_PROCESS = """
import contextlib, io, json, sys
from lorank.cli import main
rows = []
for arguments in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["lorank", *arguments]
    with contextlib.redirect_stdout(out):
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
    rows.append([code, out.getvalue()])
json.dump(rows, sys.stdout)
"""


def lorank(place, *commands, codes=0, **environment):
    """Run commands one after the other in one new process; return their standard output, and the errors of all."""
    clean = {key: value for key, value in os.environ.items() if key != plugins.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", IN_ONE_PROCESS],
        input=json.dumps([[str(part) for part in command] for command in commands]),
        capture_output=True,
        text=True,
        cwd=place,
        env={**clean, "XDG_CACHE_HOME": str(place / "cache"), **environment},
    )
    rows = json.loads(done.stdout)
    assert [code for code, _ in rows] == [codes] * len(commands), done.stderr
    return [out for _, out in rows], done.stderr


def training(base, out, *more):
    steps = ["--steps", 2, "--batch-size", 2, "--negatives", 2, "--out", out]
    return ["train", "--data", "beir", "--base", base, *steps, *more]


@pytest.mark.slow
def test_a_file_brings_methods_to_every_command_and_a_saved_folder_says_what_it_needs(place, tiny_folders):
    bert = tiny_folders["bert"]
    cross = ["--kind", "my-cross", "--adapter", "bias-row", "--start", "halves", "--rule", "slow", "--loss", "spread"]
    (place / "docs.jsonl").write_text('"moon earth"\n"words"\n')
    rank = ["rank", "--ranker", "runs/mine", "--query", "moon", "--documents", "docs.jsonl"]
    out, _ = lorank(place, training(bert, "runs/mine", *cross, "--import", "mine.py"), rank, ["methods", "--json"])
    assert json.loads((place / "runs/mine/model/lorank.json").read_text())["imports"] == {"mine": "mine.py"}
    assert len(out[1].splitlines()) == 2
    assert {"spread", "bias-row", "my-cross", "as-given", "by-name"} <= {row["id"] for row in json.loads(out[2])}
    _, errors = lorank(place, training(bert, "x", *cross), rank, codes=2)
    assert "unknown adapter 'bias-row'" in errors
    assert "--import mine.py" in errors


@pytest.mark.slow
def test_recipes_budgets_strategies_and_rules_of_consensus_by_name(place, tiny_folders):
    bert = tiny_folders["bert"]
    (place / "recipe.toml").write_text(
        f'data = "beir"\nbase = "{bert}"\nkind = "cross-encoder"\n[loss]\nname = "spread"\noptions = {{ by = 2.0 }}\n'
        '[budget]\nname = "first-layer"\n[training]\nsteps = 2\nbatch_size = 2\n'
    )
    asked = ["--run", "a.run", "--judge", "oracle", "--strategy", "as-given", "--out", "b.run"]
    merge = ["aggregate", "--run", "a.run", "--run", "b.run", "--method", "by-name", "--out", "c.run"]
    rows = ["rerank", "--ranker", "runs/sum", "--data", "rows", "--out", "d.run"]
    lorank(
        place,
        ["train", "recipe.toml", "--out", "runs/recipe"],
        training(bert, "runs/drop", "--kind", "cross-encoder", "--adapter", "drop-last"),
        ["retrieve", "--data", "beir", "--out", "a.run"],
        ["rerank", "--data", "beir", *asked],
        merge,
        ["train", "--data", "rows", "--base", "sum", "--steps", 4, "--out", "runs/sum"],
        rows,
        LORANK_IMPORT="mine.py",
    )
    layers = json.loads((place / "runs/recipe/model/adapter/lorank.json").read_text())["layers"]
    assert sum(layer["rank"] > 0 for layer in layers.values()) == 1
    _, errors = lorank(place, merge, rows, codes=2)
    assert "unknown consensus method 'by-name'" in errors
    assert "--import mine.py" in errors


JUDGING = '''
import numpy as np
import lorank
from lorank.ranking.calibration.platt import Platt
from lorank.ranking.clicks.core.debiaser import Debiaser, Weights
from lorank.ranking.clicks.core.propensity import Propensities
from lorank.ranking.clicks.core.interleave import Interleaved
from lorank.ranking.clicks.models.pbm import PositionBased

@lorank.click_model("my-clicks", title="Clicks by another name", aliases=("mine-too",))
class MyClicks(PositionBased):
    """A position-based model."""

@lorank.propensity("halves-of-one")
def halves_of_one(sessions):
    """Each position is looked at half as often as the one above."""
    return Propensities(0.5 ** np.arange(sessions.positions), "halves-of-one")

@lorank.debiaser("half")
class Half(Debiaser):
    """Each click counts one half."""
    def weigh(self, batch):
        return Weights(batch.clicked * 0.5 + (~batch.clicked) * 1.0)

@lorank.estimator("plain-mean")
def plain_mean(rows):
    """The mean of the rewards."""
    return rows.rewards

@lorank.interleaving("first-only")
def first_only(first, second, length, rng):
    """The first list, with credit 1 on its top and -1 below."""
    shown = list(first[:length])
    return Interleaved(shown, [1.0] + [-1.0] * (len(shown) - 1))

@lorank.calibrator("my-platt")
class MyPlatt(Platt):
    """A logistic function by another name."""

@lorank.normalisation("negated-rank")
def negated_rank(scores):
    """Minus the rank."""
    return -np.argsort(np.argsort(-scores)).astype(float)

@lorank.perturbation("first-word", on="query")
def first_word(text, rng, around):
    """The first word alone."""
    return text.split()[0] if text.split() else text

@lorank.fairness_measure("top-is-open")
def top_is_open(protected):
    """0 where the best item is of the protected group."""
    return 0.0 if protected[0] else 1.0
'''


def test_methods_of_judging_and_of_clicks_by_name(place):
    (place / "judging.py").write_text(JUDGING)
    (place / "docs.jsonl").write_text('"moon earth"\n"words"\n')
    clicks = ["clicks", "simulate", "--data", "beir", "--model", "my-clicks", "--sessions", 200, "--out", "log.jsonl"]
    fit = ["clicks", "fit", "--log", "log.jsonl", "--model", "mine-too", "--propensities", "halves-of-one", "--json"]
    scale = ["rank", "--ranker", "bm25", "--query", "moon", "--documents", "docs.jsonl", "--scale", "negated-rank"]
    stress = ["stress", "bm25", "--data", "beir", "--perturbation", "first-word", "--json"]
    train = ["train", "--data", "beir", "--clicks", "log.jsonl", "--debias", "half", "--steps", 1, "--out", "runs/half"]
    out, _ = lorank(place, clicks, fit, scale, stress, ["methods", "--json"], LORANK_IMPORT="judging.py")
    fitted = json.loads(out[1])
    assert "my-clicks" in fitted["models"]
    assert fitted["propensities"]["curve"][:3] == pytest.approx([1, 0.5, 0.25])
    assert [json.loads(line)["score"] for line in out[2].splitlines()] == pytest.approx([0.0, -1.0])
    assert "first-word" in json.loads(out[3])["bm25"]["queries"]
    brought = {"my-clicks", "halves-of-one", "half", "plain-mean", "first-only", "my-platt", "negated-rank"}
    assert brought | {"first-word", "top-is-open"} <= {row["id"] for row in json.loads(out[4])}
    _, errors = lorank(place, fit, scale, stress, train, codes=2)
    assert all(repr(each) in errors for each in ("mine-too", "negated-rank", "first-word", "half"))


@pytest.fixture
def installed(tmp_path):
    """The example package as pip leaves it: its modules, and metadata with the entry point."""
    home = tmp_path / "site-packages"
    shutil.copytree(EXAMPLE / "lorank_example", home / "lorank_example")
    about = home / "lorank_example-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lorank-example\nVersion: 0.1\n")
    (about / "entry_points.txt").write_text("[lorank.methods]\nexample = lorank_example\n")
    return home


@pytest.mark.slow
def test_an_installed_package_needs_no_import(place, tiny_folders, installed):
    there = {"PYTHONPATH": os.pathsep.join([str(installed), *sys.path])}
    more = ["--kind", "cross-encoder", "--adapter", "row-scale", "--loss", "margin"]
    (listed, _), _ = lorank(place, ["methods"], training(tiny_folders["bert"], "runs/pkg", *more), **there)
    assert all(name in listed for name in ("row-scale", "margin", "one-pass", "trimmed-borda"))
    code = """
import lorank, torch
from lorank import lowrank, ranking
model, x = torch.nn.Sequential(torch.nn.Linear(4, 3)), torch.randn(5, 4)
before = model(x)
adapter = lowrank.attach(model, "row-scale")
assert torch.allclose(model(x), before)
next(iter(adapter.parameters())).data.fill_(0.5)
after = model(x)
adapter.merge()
assert torch.allclose(model(x), after, atol=1e-5)
margin = ranking.loss("margin")(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), torch.ones(1, 2).bool())
assert margin == 1
print(ranking.rerank("q", ["a", "b", "c"], ranking.Oracle([0, 1, 2]), strategy="one-pass").order[0])
print(ranking.aggregate([["a", "b"], ["a", "b"], ["b", "a"]], method="trimmed-borda").order)
print(type(lorank.load_ranker("runs/pkg")).__name__)
"""
    clean = {key: value for key, value in os.environ.items() if key != plugins.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=place, env={**clean, **there}
    )
    assert done.stdout.splitlines() == ["2", "('a', 'b')", "TunedRanker"], done.stderr


@pytest.mark.slow
def test_the_example_package_installs_by_pip(tmp_path):
    target = tmp_path / "there"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*pip, str(target), str(EXAMPLE)], check=True)
    assert list(target.glob("lorank_example-*.dist-info/entry_points.txt"))


def test_reading_an_adapter_folder_never_imports_what_it_names(tmp_path):
    """As a server reads the folders of its tenants: `lowrank.load` and the store know this way alone."""
    import torch

    from lorank import lowrank

    adapter = lowrank.attach(torch.nn.Sequential(torch.nn.Linear(4, 3)), "lora", rank=1)
    adapter.save(tmp_path / "adapter")
    about = json.loads((tmp_path / "adapter" / "lorank.json").read_text())
    (tmp_path / "trap_module.py").write_text("raise SystemExit('a folder made me run')")
    (tmp_path / "adapter" / "lorank.json").write_text(json.dumps(about | {"imports": {"trap_module": "trap_module"}}))
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(UsageError, match="trap_module"):
            lowrank.load(torch.nn.Sequential(torch.nn.Linear(4, 3)), tmp_path / "adapter")
    finally:
        sys.path.remove(str(tmp_path))
    assert "trap_module" not in sys.modules


def test_opening_imports_by_name_but_never_a_file_and_nothing_inside_the_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "model").mkdir()
    (tmp_path / "elsewhere" / "plugin_by_name.py").write_text("LOADED = True")
    (tmp_path / "model" / "plugin_inside.py").write_text("raise SystemExit('a folder made me run')")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(tmp_path / "model")
    plugins.import_named({"plugin_by_name": "plugin_by_name"}, tmp_path / "model")
    assert sys.modules["plugin_by_name"].LOADED
    for module, source in (
        ("plugin_inside", "plugin_inside"),
        ("evil", str(tmp_path / "model" / "plugin_inside.py")),
        ("no_such_module_at_all", "no_such_module_at_all"),
        ("os; print()", "os; print()"),
    ):
        with pytest.raises(UsageError, match="if you trust that code"):
            plugins.import_named({module: source}, tmp_path / "model")


@pytest.mark.parametrize("family", plugins.FAMILIES)
def test_a_decorator_refuses_taken_names_and_what_is_no_method(family):
    import lorank as package

    decorate = getattr(package, family)
    with pytest.raises(UsageError, match="a name is written"):
        decorate("Two Words")(lambda: None)
    with pytest.raises(UsageError, match="class or a function"):
        decorate("no-method")(3)
    taken = {"form": "lora", "start": "svd", "budget": "adalora", "rule": "adamw", "loss": "softmax"}
    taken |= {"strategy": "full", "consensus": "borda", "scorer": "causal", "feature_model": "mlp"}
    taken |= {"click_model": "pbm", "propensity": "harvest", "debiaser": "ips", "estimator": "snips"}
    taken |= {"interleaving": "team-draft", "calibrator": "platt", "normalisation": "z", "perturbation": "typos"}
    taken |= {"fairness_measure": "rnd"}
    kind = type("Kind", (_base(family),), {}) if plugins.FAMILIES[family].base else lambda: None
    with pytest.raises(UsageError, match="taken already"):
        decorate(taken[family])(kind)
    if plugins.FAMILIES[family].base:
        with pytest.raises(UsageError, match="must be derived from"):
            decorate("no-method")(lambda: None)


def _base(family):
    import importlib

    module, _, name = plugins.FAMILIES[family].base.partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("import no_such_thing", "no_such_thing"),
        ("1 / 0", "ZeroDivisionError"),
        ("def (", "SyntaxError"),
        (None, "no such file"),
    ],
)
def test_a_file_that_cannot_be_imported_is_wrong_use(tmp_path, content, named):
    if content is not None:
        (tmp_path / "broken_plugin.py").write_text(content)
    with pytest.raises(UsageError, match=named):
        plugins.use([str(tmp_path / "broken_plugin.py")])
    assert "broken_plugin" not in sys.modules


def test_a_package_that_fails_is_left_out_with_a_warning(tmp_path):
    (tmp_path / "bad_plugin.py").write_text("1 / 0")
    about = tmp_path / "bad-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: bad\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[lorank.methods]\nbad = bad_plugin\n")
    code = "import lorank.ranking.losses as l; print(len(l.LOSSES) > 10)"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout.strip() == "True"
    assert "bad_plugin" in done.stderr
