"""--negative on every command that reads judgments: a grade below 0 is refused by default, and read as asked."""

import json

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import load, read_run, write_beir, write_run
from lorank.data.numbers import NEGATIVE
from lorank.errors import DataError, UsageError


@pytest.fixture
def judged(texts, tmp_path):
    """A collection whose every split judges one document more, -2, and a run of its test queries."""
    write_beir(texts, tmp_path / "beir")
    for path in (tmp_path / "beir" / "qrels").iterdir():
        query, document = path.read_text().splitlines()[1].split("\t")[:2]
        other = next(d for d in texts.document_ids if d not in path.read_text() and d != document)
        path.write_text(path.read_text() + f"{query}\t{other}\t-2\n")
    run = {q: {d: -float(i) for i, d in enumerate(texts.document_ids[:20])} for q in texts.test.queries}
    write_run(run, tmp_path / "first.run")
    return tmp_path


def commands(folder):
    data, run = ["--data", folder / "beir"], ["--run", folder / "first.run"]
    return {
        "evaluate": ["evaluate", *data, *run, "--measures", "nDCG@10 Judged@10", "--json"],
        "evaluate a qrels file": ["evaluate", "--qrels", folder / "beir" / "qrels" / "test.tsv", *run, "--json"],
        "depth": ["depth", *data, *run, "--scores", folder / "first.run", "--depths", "5,10", "--json"],
        "rerank": ["rerank", *data, *run, "--judge", "oracle", "--out", folder / "out.run"],
        "retrieve": ["retrieve", *data, "--out", folder / "out.run"],
    }


def run(arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_grade_below_0_is_refused_and_the_option_is_named(judged):
    for name, command in commands(judged).items():
        done = run(command)
        assert isinstance(done.exception, DataError), name
        assert "is below 0" in str(done.exception), name
        assert "--negative" in str(done.exception), name


@pytest.mark.parametrize("negative", [word for word in NEGATIVE if word != "error"])
def test_every_command_reads_it_as_asked(judged, negative):
    for name, command in commands(judged).items():
        done = run([*command, "--negative", negative])
        assert done.exit_code == 0, (name, done.output)
        if name == "evaluate":
            means = json.loads(done.stdout)["systems"]["first"]["mean"]
            assert 0 <= means["Judged@10"] <= 1
    assert read_run(judged / "out.run")


def test_an_unknown_word_is_refused(judged):
    for name, command in commands(judged).items():
        done = run([*command, "--negative", "zer"])
        assert isinstance(done.exception, UsageError), name
        assert "did you mean 'zero'" in str(done.exception), name


def test_training_reads_it_from_the_option_and_the_recipe(judged):
    data = judged / "beir"
    base = ["train", "--data", data, "--out", judged / "out", "--base", "none-such-model"]
    assert isinstance(run(base).exception, DataError)
    done = run([*base, "--negative", "skip"])
    assert not isinstance(done.exception, DataError)
    recipe = judged / "recipe.toml"
    recipe.write_text(f'data = "{data}"\nout = "{judged / "out"}"\nbase = "none-such-model"\nnegative = "zero"\n')
    assert "below 0" not in str(run(["train", recipe]).exception)


def test_what_negative_keeps(judged):
    grades = {word: load(judged / "beir", negative=word).test.qrels for word in ("zero", "skip", "keep")}
    counts = {word: sum(map(len, qrels.values())) for word, qrels in grades.items()}
    assert counts["zero"] == counts["keep"] == counts["skip"] + 1
    assert min(grade for row in grades["keep"].values() for grade in row.values()) == -2
    assert min(grade for row in grades["zero"].values() for grade in row.values()) == 0
