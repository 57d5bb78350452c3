"""Walks of people with data of their own, as processes: pages to a server, rows of every kind, tenants, own methods."""

import json
import os
import shutil
import subprocess
import sys
import urllib.request

import pytest

import lorank
from lorank.data import Collection
from tiny_collections import planted
from tiny_sites import write_site

pytestmark = pytest.mark.slow
LORANK = [sys.executable, "-m", "lorank"]
SMALL = ["--kind", "cross-encoder", "--adapter", "lora", "--rank", "2", "--steps", "3", "--batch-size", "4"]
MINE = '''
import lorank
from lorank.lowrank.forms import LoRA

@lorank.form("my-lora")
class MyLoRA(LoRA):
    """A LoRA by another name."""
'''


@pytest.fixture
def environment(tmp_path):
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.fixture
def run(tmp_path, environment):
    def call(*arguments):
        command = [*LORANK, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout + done.stderr

    return call


@pytest.fixture
def serve(tmp_path, environment):
    """Start `lorank serve`, return its address; it ends with the test."""
    started = []

    def start(*arguments):
        command = [*LORANK, "serve", *map(str, arguments), "--port", "0"]
        log = (tmp_path / "serve.log").open("ab")
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment, cwd=tmp_path
        )
        started.append((process, log))
        address = process.stdout.readline().strip()
        assert address.startswith("http://"), (tmp_path / "serve.log").read_text()
        return address

    yield start
    for process, log in started:
        process.terminate()
        process.wait(60)
        process.stdout.close()
        log.close()


def ask(address, **body):
    request = urllib.request.Request(
        f"{address}/v1/rerank", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)["results"]


def test_from_500_pages_and_clicks_to_a_served_ranker_in_five_commands(run, serve, tiny_folders, tmp_path):
    write_site(tmp_path, 500)
    base = tiny_folders["bert"]
    run("import", "site", "clicks.csv", "--out", "data", "--passage-words", 60)
    said = run("train", "--data", "data", "--base", base, *SMALL, "--set", "lists.depth=10", "--out", "runs/first")
    assert "raining gained" in said  # a verdict either way: "Training gained: ..." or "Training gained nothing ..."
    run("report", "runs/first")
    judged = run("evaluate", "--data", "data", "--ranker", "bm25", "--ranker", "runs/first", "--depth", 10)
    assert "runs/first" in judged
    shutil.copytree(tmp_path / "runs" / "first" / "model", tmp_path / "adapters" / "first")
    address = serve("--base", base, "--kind", "cross-encoder", "--adapters", "adapters")
    documents = ["moon earth sun", "sorting list words", "a page about nothing"]
    found = ask(address, model="first", query="sorting words", documents=documents)
    assert sorted(each["index"] for each in found) == [0, 1, 2]


def rows_of(data: Collection):
    """Return (query, relevant, not relevant) texts of the training split."""
    text = dict(zip(data.document_ids, data.documents, strict=True))
    names = list(text)
    return [
        (query, text[document], text[names[(names.index(document) + 7) % len(names)]])
        for name, query in data.train.queries.items()
        for document in data.train.qrels[name]
    ]


def write_triples(rows, folder):
    path = folder / "triples.tsv"
    path.write_text("".join("\t".join(part.replace("\n", " ") for part in row) + "\n" for row in rows))
    return path


def write_parquet(rows, folder):
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.Table.from_pylist([{"query": q, "pos": [p], "neg": [n]} for q, p, n in rows])
    parquet.write_table(table, folder / "rows.parquet")
    return folder / "rows.parquet"


def write_datasets_folder(rows, folder):
    """Write what datasets' ``Dataset.save_to_disk`` writes."""
    import pyarrow

    (folder / "saved").mkdir()
    table = pyarrow.Table.from_pylist([{"anchor": q, "positive": p, "negative": n} for q, p, n in rows])
    with pyarrow.ipc.new_stream(folder / "saved" / "data-00000-of-00001.arrow", table.schema) as writer:
        writer.write_table(table)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"}
    (folder / "saved" / "state.json").write_text(json.dumps(state))
    return folder / "saved"


@pytest.mark.parametrize("write", [write_triples, write_parquet, write_datasets_folder])
def test_rows_of_every_kind_train_as_they_are(write, run, tiny_folders, tmp_path):
    if write is not write_triples:
        pytest.importorskip("pyarrow")
    source = write(rows_of(planted(0)), tmp_path)
    run("train", "--data", source, "--base", tiny_folders["bert"], *SMALL, "--out", "runs/rows")
    record = json.loads((tmp_path / "runs" / "rows" / "run.json").read_text())
    assert record["adapter"]["moved"] > 0
    ranked = run("rank", "--ranker", "runs/rows", "--query", "sorting moon", "--documents", write_documents(tmp_path))
    assert "sun relevant" in ranked


def write_documents(folder):
    (folder / "documents.txt").write_text("sun relevant\nthe words of a list\n")
    return folder / "documents.txt"


def test_a_frame_trains_from_python(tiny_folders, tmp_path, monkeypatch):
    pandas = pytest.importorskip("pandas")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pairs = [(q, d, label) for q, *found in rows_of(planted(0)) for d, label in zip(found, (1, 0), strict=True)]
    rows = [{"query": query, "document": document, "label": label} for query, document, label in pairs]
    data = lorank.load(pandas.DataFrame(rows))
    half = len(data.train.queries) // 2
    assert half > 10
    run = tmp_path / "run"
    from lorank.training.settings import OptimizerSettings, Recipe

    recipe = Recipe(training=OptimizerSettings(steps=3, batch_size=4))
    tuned = lorank.fit(lorank.CrossEncoder(tiny_folders["bert"]), data, "lora", out=run, recipe=recipe)
    assert tuned.score("sorting", ["sun", "moon"]).shape == (2,)
    assert lorank.load_ranker(run).score("sorting", ["sun"]).shape == (1,)


def test_tenants_with_adapters_of_their_own_share_one_server(run, serve, tiny_folders, tmp_path):
    base = tiny_folders["bert"]
    settings = ("lists.negatives=2", "lists.depth=150", "lists.spare=1.0", "training.warmup=0")
    options = ["--kind", "bi-encoder", "--adapter", "lora", "--steps", 40, "--lr", "1e-2", "--batch-size", 16]
    options += [part for setting in settings for part in ("--set", setting)]
    for seed, tenant in enumerate(("acme", "globex")):
        lorank.data.write_beir(planted(seed), tmp_path / tenant)
        run("train", "--data", tenant, "--base", base, *options, "--seed", seed, "--out", f"runs/{tenant}")
        shutil.copytree(tmp_path / "runs" / tenant / "model", tmp_path / "adapters" / tenant)
    address = serve("--base", base, "--kind", "bi-encoder", "--dtype", "float32", "--adapters", "adapters")
    documents = ["moon earth sun", "sorting list words", "a page about nothing"]
    scores = {}
    for tenant in ("acme", "globex"):
        ranker = lorank.load_ranker(tmp_path / "runs" / tenant)
        ranker.ranker.read_with(dtype="float32")
        own = ranker.score("sorting words", documents)
        found = ask(address, model=tenant, query="sorting words", documents=documents, raw_scores=True)
        scores[tenant] = [each["relevance_score"] for each in sorted(found, key=lambda each: each["index"])]
        assert scores[tenant] == pytest.approx(own.tolist(), rel=1e-3, abs=1e-4)
    assert scores["acme"] != pytest.approx(scores["globex"], rel=1e-3, abs=1e-6)


def test_a_plugins_method_in_a_sweep_beside_lora(run, tiny_folders, tmp_path):
    write_triples(rows_of(planted(0)), tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    dev = {}
    for adapter in ("lora", "my-lora"):
        for lr in ("1e-3", "1e-2"):
            options = ["--adapter", adapter, "--lr", lr, "--out", f"runs/{adapter}-{lr}"]
            small = [part for part in SMALL if part not in ("--adapter", "lora")]
            run(
                *["--import", "mine.py", "train", "--data", "triples.tsv", "--base", tiny_folders["bert"]],
                *[*small, *options, "--set", "keep=tuned"],
            )
            record = json.loads((tmp_path / "runs" / f"{adapter}-{lr}" / "run.json").read_text())
            assert record["settings"]["adapter"]["name"] == adapter
            dev[adapter, lr] = record["dev"]["value"]
    for lr in ("1e-3", "1e-2"):  # the same computation under another name
        assert dev["my-lora", lr] == pytest.approx(dev["lora", lr], abs=1e-6)


@pytest.mark.parametrize("kind", ["bi-encoder", "cross-encoder"])
def test_random_judgments_end_in_nothing_gained_in_what_train_says_too(kind, run, tiny_folders, tmp_path):
    lorank.data.write_beir(planted(3, random=True), tmp_path / "data")
    options = [
        "--kind",
        kind,
        "--adapter",
        "lora",
        "--steps",
        "12",
        "--lr",
        "1e-2",
        "--seed",
        "3",
        "--out",
        "runs/random",
    ]
    said = run("train", "--data", "data", "--base", tiny_folders["bert"], *options)
    assert "gained nothing" in said
    run("report", "runs/random")
    model = tmp_path / "runs" / "random"
    record = json.loads((model / "run.json").read_text())
    assert all("gained nothing" in gain["sentence"] for gain in record["gain"])
    assert "gained nothing" in (model / "model" / "README.md").read_text()
    assert "gained nothing" in (model / "report.html").read_text()
