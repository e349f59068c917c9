"""deploy/: each file is what Compose, Kubernetes, Prometheus and Grafana take, and agrees with the service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from seamline.base.errors import SeamlineError
from seamline.service.keys import read_keys
from seamline.service.metrics import OUTCOMES, PARTS, REASONS, ROUTES, Metrics
from seamline.service.settings import Settings
from seamline.verbs.serve import parser
from tests.conftest import PROJECT
from tests.programs import needs_program, program

DEPLOY = PROJECT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboards" / "seamline.json").read_text())
RULES: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text())
RULE_TESTS: dict[str, Any] = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())
VERSIONS = ["1.29", "1.31", "1.33", "1.35", "1.37"]
PORT = 8000
# What an answer may take, beside which everything else ends: what waits for the service has to wait longer.
ANSWER_SECONDS = Settings().answer_seconds
MARGIN_SECONDS = 5


def manifests() -> dict[str, Any]:
    """Every file of deploy/kubernetes but kustomization.yaml, which is no resource of a cluster."""
    return {
        path.name: yaml.safe_load(path.read_text())
        for path in sorted(KUBERNETES.glob("*.yaml"))
        if path.name != "kustomization.yaml"
    }


def pod() -> dict[str, Any]:
    spec: dict[str, Any] = manifests()["deployment.yaml"]["spec"]["template"]["spec"]
    return spec


def container() -> dict[str, Any]:
    [one] = pod()["containers"]
    return dict(one)


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


# --- Kubernetes


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_manifest(version: str) -> None:
    for name, manifest in manifests().items():
        kubernetes_validate.validate(manifest, version, strict=True)
        assert "namespace" not in manifest["metadata"], name


@pytest.mark.parametrize("version", VERSIONS)
def test_a_misspelt_field_would_be_found(version: str) -> None:
    wrong = manifests()["deployment.yaml"]
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_kustomize_names_every_file_but_the_example_of_a_secret() -> None:
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    assert {*kustomization["resources"], "secret.example.yaml"} == set(manifests())
    assert [image["name"] for image in kustomization["images"]] == [container()["image"]]


def test_a_pod_is_held_to_the_restricted_standard() -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, and a file system that is read only."""
    for name in ("hostNetwork", "hostPID", "hostIPC", "initContainers"):
        assert name not in pod()
    assert pod()["securityContext"]["runAsNonRoot"] is True
    assert pod()["securityContext"]["runAsUser"] == pod()["securityContext"]["runAsGroup"] == 1000  # Dockerfile.cpu's
    assert pod()["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod()["automountServiceAccountToken"] is False
    assert manifests()["serviceaccount.yaml"]["automountServiceAccountToken"] is False
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {next(iter(set(volume) - {"name"})) for volume in pod()["volumes"]} == {"secret", "emptyDir"}
    writable = [mount["mountPath"] for mount in container()["volumeMounts"] if not mount.get("readOnly")]
    assert writable == ["/tmp"]
    for kind in ("requests", "limits"):
        assert {"cpu", "memory"} <= set(container()["resources"][kind])


def test_probes_ask_what_needs_no_key() -> None:
    probes = {name: container()[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}
    assert probes == {
        "startup": {"path": "/v2/health/live", "port": "http"},
        "liveness": {"path": "/v2/health/live", "port": "http"},
        "readiness": {"path": "/v2/health/ready", "port": "http"},
    }
    assert container()["ports"] == [{"name": "http", "containerPort": PORT}]
    assert manifests()["service.yaml"]["spec"]["ports"][0]["targetPort"] == "http"


def test_selectors_meet_the_pods() -> None:
    labels = manifests()["deployment.yaml"]["spec"]["template"]["metadata"]["labels"]
    assert manifests()["deployment.yaml"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests()["service.yaml"]["spec"]["selector"] == labels
    assert manifests()["disruption-budget.yaml"]["spec"]["selector"]["matchLabels"] == labels
    assert manifests()["network-policy.yaml"]["spec"]["podSelector"]["matchLabels"] == labels
    target = manifests()["autoscaler.yaml"]["spec"]["scaleTargetRef"]
    deployment = manifests()["deployment.yaml"]
    assert target == {
        "apiVersion": deployment["apiVersion"],
        "kind": deployment["kind"],
        "name": deployment["metadata"]["name"],
    }
    assert "replicas" not in deployment["spec"]
    assert manifests()["autoscaler.yaml"]["spec"]["minReplicas"] >= 2


def test_nobody_calls_out_and_only_clients_call_in() -> None:
    policy = manifests()["network-policy.yaml"]["spec"]
    assert (policy["policyTypes"], policy["egress"]) == (["Ingress", "Egress"], [])
    [rule] = policy["ingress"]
    assert rule["from"][0]["podSelector"]["matchLabels"] == {"seamline-client": "true"}


def test_the_example_of_a_secret_is_not_taken_for_a_key(tmp_path: Path) -> None:
    secret = manifests()["secret.example.yaml"]
    [(name, text)] = secret["stringData"].items()
    [volume] = [volume["secret"] for volume in pod()["volumes"] if "secret" in volume]
    assert volume["secretName"] == secret["metadata"]["name"]
    assert f"--keys=/keys/{name}" in container()["args"]
    (tmp_path / name).write_text(text)
    with pytest.raises(SeamlineError, match="line 2 cannot be used"):
        read_keys(tmp_path / name)


def test_requests_under_way_are_answered_before_a_pod_or_container_ends() -> None:
    command = container()["lifecycle"]["preStop"]["exec"]["command"]
    assert command[0] == "sleep"
    grace = pod()["terminationGracePeriodSeconds"]
    assert grace >= int(command[1]) + ANSWER_SECONDS + MARGIN_SECONDS
    assert seconds(COMPOSE["services"]["seamline"]["stop_grace_period"]) >= ANSWER_SECONDS + MARGIN_SECONDS


@pytest.mark.parametrize("command", [container()["args"], COMPOSE["services"]["seamline"]["command"]])
def test_the_commands_are_those_of_seamline_serve(command: list[str]) -> None:
    assert command[:2] == ["seamline", "serve"]
    args = parser().parse_args(command[2:])
    assert (args.host, args.port, args.no_keys) == ("0.0.0.0", PORT, False)
    assert args.keys is not None
    assert args.model == Path("/model")


# --- Compose


def test_compose_takes_the_file() -> None:
    command = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    assert subprocess.run([*command, str(DEPLOY / "compose.yaml")]).returncode == 0


def test_compose_would_not_take_another(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {seamline: {image: x, read_onyl: true}}")
    command = [str(Path(sys.executable).parent / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    assert subprocess.run([*command, str(tmp_path / "compose.yaml")], capture_output=True).returncode == 1


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_container_of_compose_can_do_little(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
    assert not service["user"].startswith("0")
    assert "privileged" not in service
    for port in service["ports"]:
        assert port.startswith("127.0.0.1:")
    for volume in service.get("volumes", []):
        source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
        is_read_only = volume.get("read_only") if isinstance(volume, dict) else volume.endswith(":ro")
        assert is_read_only or source in COMPOSE["volumes"], volume
    for image in [service["image"]] if "build" not in service else []:
        assert re.search(r":-[\w/-]+:v?\d+\.\d+\.\d+}$", image), "a version, which can be replaced"


def test_secrets_come_from_files_outside_git() -> None:
    ignored = (PROJECT / ".gitignore").read_text().splitlines()
    for name, secret in COMPOSE["secrets"].items():
        assert secret["file"].startswith("./secrets/"), name
    assert "/deploy/secrets/" in ignored
    used = {name for service in COMPOSE["services"].values() for name in service.get("secrets", [])}
    assert used == set(COMPOSE["secrets"])
    assert "--keys=/run/secrets/keys" in COMPOSE["services"]["seamline"]["command"]
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scrape["authorization"]["credentials_file"] == "/run/secrets/prometheus_key"


def test_files_that_containers_are_given_are_here() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume["source"] if isinstance(volume, dict) else volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), source
    assert (DEPLOY / COMPOSE["services"]["seamline"]["build"]["context"] / "Dockerfile.cpu").exists()


def test_health_is_asked_without_curl() -> None:
    test = COMPOSE["services"]["seamline"]["healthcheck"]["test"]
    assert test[:3] == ["CMD", "python", "-c"]
    assert f"http://127.0.0.1:{PORT}/v2/health/ready" in test[3]
    compile(test[3], "healthcheck", "exec")


# --- Prometheus


@needs_program("promtool")
def test_prometheus_takes_configuration_and_rules() -> None:
    for command in (["config", "--syntax-only", "prometheus.yml"], ["rules", "rules.yml"]):
        done = subprocess.run(
            [program("promtool"), "check", *command], cwd=DEPLOY / "prometheus", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


@needs_program("promtool")
def test_alarms_come_where_they_should_and_only_there() -> None:
    done = subprocess.run(
        [program("promtool"), "test", "rules", DEPLOY / "prometheus" / "rules_test.yml"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_program("promtool")
def test_prometheus_finds_nothing_wrong_with_the_names() -> None:
    done = subprocess.run([program("promtool"), "check", "metrics"], input=page(), capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_alarm_is_tried_and_says_what_to_do() -> None:
    alarms = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
    tried = {case["alertname"] for test in RULE_TESTS["tests"] for case in test.get("alert_rule_test", [])}
    assert {rule["alert"] for rule in alarms} == tried
    for rule in alarms:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "action"}


# --- names of metrics, in rules and on the dashboard


def page() -> str:
    metrics = Metrics(["top"])
    metrics.model("openvino_int8", "0123456789ab", "yolo", "int8")
    metrics.request_done("predict", "POST", 200, 0.1)
    return metrics.page()[0].decode()


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression is, and the expression."""
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert", rule.get("record")), rule["expr"]
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for note in DASHBOARD["annotations"]["list"]:
        yield note["name"], note["expr"]


def test_every_metric_that_is_asked_for_is_there() -> None:
    lines = [line for line in page().splitlines() if not line.startswith("#")]
    there = {re.split(r"[{ ]", line)[0] for line in lines}
    recorded = {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}
    asked = set()
    for where, expression in expressions():
        without_texts = re.sub(r'"[^"]*"', "", expression)
        names = set(re.findall(r"\b(?:seamline|process)_\w+", without_texts))
        names |= set(re.findall(r"\bseamline:[\w:]+", without_texts))
        assert names or "up{" in expression or "ALERTS{" in expression, where
        assert names <= there | recorded, (where, names - there - recorded)
        asked |= names
    assert {name for name in there if name.startswith("seamline_")} <= asked | {
        "seamline_request_seconds_bucket", "seamline_request_seconds_count", "seamline_request_seconds_sum",
    }  # fmt: skip


def test_every_value_of_a_label_that_is_asked_for_is_there() -> None:
    values = {"route": ROUTES, "reason": REASONS, "outcome": OUTCOMES, "part": PARTS}
    for where, expression in expressions():
        for label, text in re.findall(r'\b(route|reason|outcome|part)(?:=~?|!=)"([^"]+)"', expression):
            assert set(text.split("|")) <= set(values[label]), (where, text)


# --- Grafana


def test_grafana_is_given_its_source_and_its_dashboard() -> None:
    [source] = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    default = next(one for one in DASHBOARD["templating"]["list"] if one["name"] == "datasource")
    assert default["current"]["value"] == source["uid"]
    [provider] = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/seamline.yaml").read_text())["providers"]
    mounted = [volume.split(":")[1] for volume in COMPOSE["services"]["grafana"]["volumes"]]
    assert provider["options"]["path"] in mounted
    home = COMPOSE["services"]["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{provider['options']['path']}/seamline.json"


def test_the_dashboard_s_panels_have_what_grafana_needs_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] == "row":
            continue
        assert panel["type"] in ("stat", "timeseries", "heatmap")
        assert panel["title"] and panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == [*"ABC"[: len(refs)]]
        for target in panel["targets"]:
            assert "$instance" in target["expr"], panel["title"]
            assert panel["type"] != "heatmap" or target["format"] == "heatmap"
    titles = " ".join(panel["title"] for panel in panels)
    for word in ("Requests", "p50, p95, p99", "by part", "Queue", "Refusals", "Detections by class", "Scores"):
        assert word in titles


# --- an image with a model in it


def test_the_image_with_a_model_serves_it() -> None:
    text = (DEPLOY / "Dockerfile.model").read_text()
    assert re.search(r"^COPY \. /model$", text, re.MULTILINE)
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, DEPLOY / "Dockerfile.model"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
