"""The container and the chart: linted, rendered, and valid for the versions of Kubernetes that we name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from stocktake import __version__
from stocktake.cli import run
from stocktake.settings import load_settings

REPO = Path(__file__).resolve().parents[2]
CHART = REPO / "helm" / "stocktake"
WORKSPACES = [{"name": "research", "mlflow": {"uri": "https://mlflow.example", "token_env": "RESEARCH_TOKEN"}}]
EVERYTHING: dict[str, Any] = {
    "config": {"database": "embedded", "workspaces": WORKSPACES},
    "databasePassword": {"secretName": "postgres"},
    "redactionKey": {"secretName": "stocktake"},
    "env": [{"name": "RESEARCH_TOKEN", "valueFrom": {"secretKeyRef": {"name": "mlflow", "key": "token"}}}],
    "envFrom": [{"secretRef": {"name": "more"}}],
    "imagePullSecrets": [{"name": "registry"}],
    "serviceAccount": {"annotations": {"azure.workload.identity/client-id": "abc"}},
    "podLabels": {"azure.workload.identity/use": "true"},
    "podAnnotations": {"note": "x"},
    "service": {"annotations": {"note": "x"}},
    "podDisruptionBudget": {"enabled": True},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}],
    },
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "spot", "operator": "Exists"}],
    "affinity": {"podAntiAffinity": {}},
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca", "readOnly": True}],
}


def render(values: dict[str, Any], *, name: str = "watch") -> dict[str, dict[str, Any]]:
    """Return what the chart makes of these values, by kind."""
    with helm.Chart.load(str(CHART)) as chart:
        texts = chart.render(values, name=name, namespace="ml")
    documents = [d for file, text in texts.items() if file.endswith(".yaml") for d in yaml.safe_load_all(text) if d]
    return {document["kind"]: document for document in documents}


def test_the_dockerfile_passes_its_linter() -> None:
    command = [str(Path(sys.executable).parent / "hadolint"), "--no-color", str(REPO / "Dockerfile")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_container_takes_no_more_of_the_repository_than_it_needs() -> None:
    allowed = {line[1:] for line in (REPO / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")}
    copied = {
        part.split("/")[0]
        for line in (REPO / "Dockerfile").read_text("utf-8").splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for part in line.split()[1:-1]
    }
    assert copied == allowed
    assert all((REPO / name).exists() for name in copied)


def test_the_chart_passes_its_linter() -> None:
    report = helm.lint(str(CHART))
    assert report["total_charts_linted"] == 1
    assert not report["errors"]
    assert {message["error"] for message in report["messages"]} <= {"icon is recommended"}


@pytest.mark.parametrize("version", ["1.27", "1.34"])
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["defaults", "everything"])
def test_what_the_chart_renders_is_valid(values: dict[str, Any], version: str) -> None:
    rendered = render(values)
    kinds = {"ConfigMap", "ServiceAccount", "Deployment", "Service", "PersistentVolumeClaim"}
    if values is EVERYTHING:
        kinds |= {"PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"}
    assert set(rendered) == kinds
    for kind, document in rendered.items():
        if kind != "ServiceMonitor":  # the operator's own kind: Kubernetes has no schema for it
            kubernetes_validate.validate(document, version, strict=True)


def test_the_configuration_in_the_chart_is_one_that_the_service_accepts(tmp_path: Path) -> None:
    file = tmp_path / "stocktake.yaml"
    file.write_text(render(EVERYTHING)["ConfigMap"]["data"]["stocktake.yaml"], encoding="utf-8")
    settings = load_settings(file, {"RESEARCH_TOKEN": "x"})
    assert [one.name for one in settings.workspaces] == ["research"]
    assert (settings.web.host, settings.web.port) == ("0.0.0.0", 8321)


def test_a_pod_may_do_as_little_as_possible() -> None:
    pod = render({})["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["image"] == f"stocktake:{__version__}"


def test_the_command_line_takes_what_the_pod_and_the_container_start_it_with() -> None:
    pod = render({})["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]
    commands = [line for line in (REPO / "Dockerfile").read_text("utf-8").splitlines() if line.startswith("CMD ")]
    container = json.loads(commands[-1].removeprefix("CMD "))
    for arguments in (pod, container):
        assert "worker" in arguments
        assert run([*arguments, "--help"]) == 0, arguments


def test_no_volume_is_claimed_when_the_database_and_the_key_are_elsewhere() -> None:
    rendered = render({"persistence": {"enabled": False}, "redactionKey": {"secretName": "stocktake"}})
    assert "PersistentVolumeClaim" not in rendered
    pod = rendered["Deployment"]["spec"]["template"]["spec"]
    assert {"name": "data", "emptyDir": {}} in pod["volumes"]
    assert "STOCKTAKE_REDACTION_KEY" in {one["name"] for one in pod["containers"][0]["env"]}


def test_a_changed_configuration_restarts_the_pod() -> None:
    def mark(workspaces: list[dict[str, Any]]) -> str:
        values = {"config": {"workspaces": workspaces}}
        return str(render(values)["Deployment"]["spec"]["template"]["metadata"]["annotations"]["stocktake/config"])

    assert mark([]) != mark(WORKSPACES)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"config": {"database": "embedded"}, "persistence": {"enabled": False}}, "history is lost"),
        ({"persistence": {"enabled": False}}, "redactionKey.secretName"),
        ({"config": {"database": "postgresql://u:secret@host/db"}}, "database"),
        ({"replicas": 3}, "replicas"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ],
    ids=[
        "embedded without a volume",
        "no place for the key",
        "a password in the address",
        "an unknown value",
        "a wrong value",
    ],
)
def test_values_that_would_do_harm_are_refused(values: dict[str, Any], words: str) -> None:
    with pytest.raises(helm.HelmError, match=words):
        render(values)


def test_the_chart_and_the_package_have_one_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert chart["appVersion"] == __version__
    json.loads((CHART / "values.schema.json").read_text("utf-8"))
