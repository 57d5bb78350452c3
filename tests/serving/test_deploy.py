"""The files in deploy/: they parse, name options that exist, and the board asks for metrics that there are."""

import json
import re
from pathlib import Path

import yaml
from typer.main import get_command

from lorank.cli.app import app
from lorank.serving.http.app import make_app
from word_engine import WordEngine

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def test_the_board_asks_for_metrics_that_the_server_gives():
    application = make_app(WordEngine())
    metrics = application.metrics
    metrics.requests.labels("/v1/rerank", "200").inc()
    metrics.refusals.labels("busy").inc()
    metrics.seconds.labels("/v1/rerank").observe(0.1)
    given = set(re.findall(r"^(lorank_\w+)", metrics.text().decode(), flags=re.MULTILINE))
    board = json.loads((DEPLOY / "grafana" / "lorank.json").read_text())
    asked = {
        name
        for panel in board["panels"]
        for target in panel["targets"]
        for name in re.findall(r"lorank_\w+", target["expr"])
    }
    assert asked <= given


def test_the_options_exist():
    options = {name for parameter in get_command(app).commands["serve"].params for name in parameter.opts}
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    used = re.findall(r"--[a-z-]+", " ".join(compose["services"]["lorank"]["command"]))
    entry = re.search(r"^ENTRYPOINT .*\nCMD .*$", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)[0]
    assert {*used, *re.findall(r"--[a-z-]+", entry)} <= options
    assert yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["scrape_configs"]


def test_what_was_never_built_says_so():
    for name in ("Dockerfile", "compose.yaml"):
        assert re.search(r"never been built|never started", (DEPLOY / name).read_text())
