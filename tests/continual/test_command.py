"""`lorank train --then`: the command, killed and taken up, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from lorank.cli.app import app
from lorank.data import write_beir
from lorank.errors import UsageError


@pytest.fixture
def folders(three, tmp_path):
    for each in three:
        write_beir(each, tmp_path / each.name)
    return [str(tmp_path / each.name) for each in three]


def command(folders, base, out, *more):
    stream = ["train", "--data", folders[0], *(word for folder in folders[1:] for word in ("--then", folder))]
    small = ["--base", base, "--kind", "bi-encoder", "--adapter", "lora", "--steps", "6", "--batch-size", "4"]
    return [*stream, *small, "--out", str(out), *more]


@pytest.mark.slow
def test_a_stream_that_was_killed_ends_as_one_that_was_not(folders, tiny_folders, tmp_path, own_cache):
    words = command(folders, str(tiny_folders["bert"]), tmp_path / "out")
    process = subprocess.Popen([sys.executable, "-m", "lorank", *words], stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    first = tmp_path / "out/stage-2"
    for _ in range(600):
        if first.exists() or process.poll() is not None:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    record = json.loads((tmp_path / "out/continual.json").read_text())
    assert len(record["stages"]) == 1
    stamp = (tmp_path / "out/stage-1/model/lorank.json").stat().st_mtime_ns
    done = CliRunner().invoke(app, [*words, "--resume"], catch_exceptions=False)
    assert done.exit_code == 0
    assert "| forgetting" in done.stdout
    assert str(tmp_path / "out/stage-3/model") in done.stdout
    assert (tmp_path / "out/stage-1/model/lorank.json").stat().st_mtime_ns == stamp
    whole = CliRunner().invoke(app, command(folders, str(tiny_folders["bert"]), tmp_path / "whole"))
    assert whole.exit_code == 0
    one, two = (json.loads((tmp_path / name / "continual.json").read_text())["quality"] for name in ("out", "whole"))
    assert [value for row in one for value in row] == pytest.approx([value for row in two for value in row])
    page = (tmp_path / "out/report.html").read_text()
    assert 'class="heat' in page
    assert "A stream of 3 collections" in page
    assert "does not say how it was made" not in page
    ranked = CliRunner().invoke(
        app,
        ["rank", "--ranker", str(tmp_path / "out/stage-3"), "--query", "moon", "--documents", "-"],
        input='"moon"\n',
    )
    assert ranked.exit_code == 0, ranked.output


def test_a_recipe_states_a_stream_too(folders, tiny_folders, tmp_path, own_cache):
    path = tmp_path / "recipe.toml"
    path.write_text(
        f'data = "{folders[0]}"\nthen = ["{folders[1]}"]\nbase = "{tiny_folders["bert"]}"\nkind = "bi-encoder"\n'
        f'out = "{tmp_path / "out"}"\n[continual]\nname = "replay"\nshare = 0.3\n[adapter]\nname = "lora"\n'
        "[training]\nsteps = 3\nbatch_size = 4\n"
    )
    done = CliRunner().invoke(app, ["train", str(path)], catch_exceptions=False)
    assert done.exit_code == 0
    record = json.loads((tmp_path / "out/continual.json").read_text())
    assert record["settings"]["continual"]["options"] == {"share": 0.3}  # exact: read
    again = CliRunner().invoke(app, ["train", str(tmp_path / "out/stage-2/run.json"), "--out", str(tmp_path / "one")])
    assert again.exit_code == 0, again.output  # the record of a stage is a recipe of that collection alone


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--continual", "replya"], "did you mean 'replay'"),
        (["--folds", "3"], "--folds is for one collection"),
        (["--set", "continual.shaer=0.5", "--continual", "replay"], "did you mean 'share'"),
        (["--set", "continual.share=2", "--continual", "replay"], "from 0 to below 1"),
        (["--then", "no/such/folder"], "there is nothing at"),
    ],
)
def test_a_slip_is_refused_before_any_work(folders, tiny_folders, tmp_path, more, says):
    done = CliRunner().invoke(app, command(folders, str(tiny_folders["bert"]), tmp_path / "out", *more))
    assert isinstance(done.exception, UsageError)
    assert says in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_method_without_a_stream_is_refused(folders, tiny_folders, tmp_path):
    words = command(folders[:1], str(tiny_folders["bert"]), tmp_path / "out", "--continual", "replay")
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UsageError)
    assert "give --then" in str(done.exception)
