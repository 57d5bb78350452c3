"""The files in deploy/: they parse, name options that exist, run as nobody special, and ask for metrics that exist."""

import json
import re
import shutil
import subprocess
import tomllib
from configparser import RawConfigParser
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from lorank.cli.app import app
from lorank.serving.http.app import make_app
from word_engine import WordEngine

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "lorank.yaml").read_text()))
OPTIONS = {name for parameter in get_command(app).commands["serve"].params for name in parameter.opts}


def manifest(kind):
    return next(one for one in MANIFESTS if one["kind"] == kind)


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


@pytest.mark.parametrize(
    "text",
    [
        " ".join(COMPOSE["services"]["lorank"]["command"]),
        "\n".join(re.findall(r"^(?:ENTRYPOINT|CMD) .*$", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)),
        " ".join(manifest("Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]),
        re.search(r"^ExecStart=.*$", (DEPLOY / "lorank.service").read_text(), flags=re.MULTILINE)[0],
    ],
)
def test_the_options_exist(text):
    used = re.findall(r"--[a-z-]+", text)
    assert used
    assert set(used) <= OPTIONS


@pytest.mark.parametrize("text", [(DEPLOY / "serve.toml").read_text(), manifest("ConfigMap")["data"]["serve.toml"]])
def test_the_option_files_hold_options(text):
    keys = {f"--{key}" for key in tomllib.loads(text)} - {"--aliases"}
    assert "--base" in keys
    assert keys <= OPTIONS


def test_environment_variables_of_the_image_are_options():
    names = re.findall(r"LORANK_SERVE_([A-Z_]+)=", (DEPLOY / "Dockerfile").read_text())
    assert {f"--{name.lower().replace('_', '-')}" for name in names} <= OPTIONS


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_containers_are_pinned_bounded_and_nobody_special(name):
    service = COMPOSE["services"][name]
    image = service.get("image") or re.search(r"^FROM (\S+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert re.search(r":v?\d+\.\d+\.\d+", image), f"{image} is not pinned"
    assert int(service["user"].split(":")[0]) > 0
    assert service["mem_limit"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_no_password_stands_anywhere():
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            text = re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE)
            found = re.findall(r"(?i)(?:password|secret|token)\w*\s*[:=]\s*(\S+)", text)
            assert all(value.startswith(("${", "{secretName", "false", "{name")) for value in found), (path, found)
    assert "?" in COMPOSE["services"]["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]  # required, no default


def test_the_image_and_the_pod_run_as_the_same_user():
    user = re.search(r"^USER (\d+):(\d+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert (str(pod["securityContext"]["runAsUser"]), str(pod["securityContext"]["runAsGroup"])) == user.groups()
    container = pod["containers"][0]
    assert container["resources"]["limits"]["memory"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert pod["terminationGracePeriodSeconds"] > 30
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_selectors_find_the_pods():
    labels = manifest("Deployment")["spec"]["template"]["metadata"]["labels"]
    assert manifest("Deployment")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("Service")["spec"]["selector"] == labels
    assert manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    assert manifest("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels


@pytest.mark.parametrize("one", MANIFESTS, ids=lambda one: one["kind"])
def test_manifests_keep_to_the_schemas_of_kubernetes(one):
    validator = pytest.importorskip("kubernetes_validate")
    for version in ("1.29", validator.latest_version()):
        validator.validate(one, version, strict=True)


def test_the_unit_is_one_that_systemd_accepts(tmp_path):
    unit = RawConfigParser(strict=False)
    unit.optionxform = str
    unit.read(DEPLOY / "lorank.service")
    assert unit["Service"]["User"] == "lorank"
    assert unit["Service"]["NoNewPrivileges"] == "yes"
    assert unit["Service"]["MemoryMax"]
    if (systemd := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not here")
    copy = tmp_path / "lorank.service"
    text = (DEPLOY / "lorank.service").read_text()
    copy.write_text(text.replace("/opt/lorank/bin/lorank", "/bin/true"))
    said = subprocess.run([systemd, "verify", str(copy)], capture_output=True, text=True, timeout=120, check=False)
    assert [line for line in said.stderr.splitlines() if "lorank.service" in line] == []


def test_the_proxy_s_configuration_is_one_that_nginx_accepts(tmp_path):
    text = (DEPLOY / "nginx.conf").read_text()
    assert "ssl_protocols TLSv1.2 TLSv1.3;" in text
    if (nginx := shutil.which("nginx")) is None or shutil.which("openssl") is None:
        pytest.skip("nginx or openssl is not here")
    certificate = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-days", "1"]
    subprocess.run([*certificate, "-keyout", tmp_path / "k", "-out", tmp_path / "c"], check=True, capture_output=True)
    text = text.replace("/etc/nginx/tls/server.crt", str(tmp_path / "c")).replace("lorank:8080", "127.0.0.1:8080")
    text = text.replace("/etc/nginx/tls/server.key", str(tmp_path / "k")).replace("/tmp/", f"{tmp_path}/")
    (tmp_path / "nginx.conf").write_text(text)
    said = subprocess.run(
        [nginx, "-t", "-c", str(tmp_path / "nginx.conf")], capture_output=True, text=True, timeout=120, check=False
    )
    assert said.returncode == 0, said.stderr


def test_what_was_never_built_says_so():
    for name in ("Dockerfile", "compose.yaml"):
        assert re.search(r"never been built|never started", (DEPLOY / name).read_text())
