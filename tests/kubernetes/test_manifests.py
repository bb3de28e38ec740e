"""Rules of the manifests that no schema has: names on both sides of a reference, and what every pod must have."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
from kubernetes_validate import latest_version
from kubernetes_validate import validate as validate_strictly
from kubernetes_validate.utils import SchemaNotFoundError

from chassis.process import configuration
from chassis.settings import PRODUCTION_DEFAULTS, ServiceSettings
from product_service.settings import Settings as ProductSettings
from testkit.processes import SETTINGS
from tests.kubernetes.manifests import CUSTOM_KINDS, Overlay, Pod, matches
from tools import kubernetes
from tools.production import write_secrets
from tools.services import ROOT
from user_service.settings import Settings as UserSettings

SERVICES: dict[str, type[ServiceSettings]] = {"user-service": UserSettings, "product-service": ProductSettings}
OLDEST = "1.27"
"""The oldest version of Kubernetes in which all fields are on by default, as the documentation says."""

DEPLOYMENTS = [f"Deployment/{name}" for name in SERVICES]
SHUTDOWN = 8 + 2
"""Seconds that a service has, after DRAIN_SECONDS, for running requests and to end."""

SLOW_START = 120
"""Seconds that a service may take to start on a busy machine."""

MAX_CONNECTIONS = 100
"""Of a PostgreSQL, unless configured; three are reserved for superusers."""


@pytest.fixture(scope="module", params=kubernetes.OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> Overlay:
    return Overlay(request.param)


@pytest.fixture(scope="module")
def production() -> Overlay:
    return Overlay("production")


def pods_of_services(overlay: Overlay) -> list[Pod]:
    """Those of the Deployments and of the migrations."""
    return [pod for pod in overlay.pods if pod.labels["app.kubernetes.io/component"] in ("service", "migration")]


def service_of(pod: Pod) -> str:
    return pod.labels["app.kubernetes.io/name"].removesuffix("-migration")


@pytest.mark.parametrize("version", [OLDEST, latest_version()])
def test_only_the_resources_of_operators_have_no_schema(overlay: Overlay, version: str) -> None:
    for each in overlay.resources:
        try:
            validate_strictly(each, version, strict=True)
        except SchemaNotFoundError:
            assert each["kind"] in CUSTOM_KINDS


def test_everything_is_in_the_namespace_which_enforces_restricted_pods(overlay: Overlay) -> None:
    namespace = overlay.named("Namespace", "twinlatch")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    outside = [each for each in overlay.resources if each["metadata"].get("namespace") != "twinlatch"]
    assert {each["kind"] for each in outside} <= {"Namespace", "Gateway"}


def test_every_container_is_restricted(overlay: Overlay) -> None:
    assert len(pods_of_services(overlay)) == 4
    for pod in overlay.pods:
        if not pod.containers:
            continue
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"], pod.owner
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod.spec["automountServiceAccountToken"] is False
        volumes = {each["name"]: each for each in pod.spec["volumes"]}
        assert not any("hostPath" in each for each in volumes.values())
        for container in pod.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            (tmp,) = (each for each in container["volumeMounts"] if each["mountPath"] == "/tmp")
            assert "emptyDir" in volumes[tmp["name"]]


def test_memory_is_limited_and_cpu_is_not(overlay: Overlay) -> None:
    for pod in overlay.pods:
        for container in pod.containers:
            assert container["resources"]["limits"].keys() == {"memory"}
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_services_have_probes(overlay: Overlay) -> None:
    for pod in overlay.pods:
        if pod.owner in DEPLOYMENTS:
            (container,) = pod.containers
            paths = {
                probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")
            }
            assert paths == {"startup": "/health/live", "liveness": "/health/live", "readiness": "/health/ready"}
            for probe in ("startup", "liveness", "readiness"):
                assert container[f"{probe}Probe"]["httpGet"]["port"] in pod.ports
            startup = container["startupProbe"]
            assert startup["failureThreshold"] * startup["periodSeconds"] >= SLOW_START


def test_an_update_never_has_fewer_pods(overlay: Overlay) -> None:
    for name in SERVICES:
        drain = float(overlay.named("ConfigMap", name)["data"]["DRAIN_SECONDS"])
        # In development too: otherwise the pods that end refuse connections that the cluster still sends them.
        assert drain >= PRODUCTION_DEFAULTS["drain_seconds"]
        deployment = overlay.named("Deployment", name)["spec"]
        assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
        assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] > drain + SHUTDOWN
        # Otherwise each `kubectl apply` would undo what the autoscaler did.
        assert "replicas" not in deployment
        spread = deployment["template"]["spec"]["topologySpreadConstraints"]
        assert {each["topologyKey"] for each in spread} == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}
        scaler = overlay.named("HorizontalPodAutoscaler", name)["spec"]
        assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        assert scaler["minReplicas"] >= 2
        pool = SERVICES[name].model_fields["database_pool_size"].default
        assert (
            scaler["maxReplicas"] + deployment["strategy"]["rollingUpdate"]["maxSurge"]
        ) * pool < MAX_CONNECTIONS - 3
        assert overlay.named("PodDisruptionBudget", name)["spec"]["maxUnavailable"] == 1


def test_selectors_select_the_pods_of_their_name_alone(overlay: Overlay) -> None:
    for each in overlay.of_kind("Deployment", "StatefulSet", "PodDisruptionBudget"):
        owners = {pod.owner.partition("/")[2] for pod in overlay.selected(each["spec"]["selector"])}
        assert owners == {each["metadata"]["name"]}
    for each in overlay.of_kind("Service"):
        owners = {pod.owner.partition("/")[2] for pod in overlay.selected({"matchLabels": each["spec"]["selector"]})}
        assert owners == {each["metadata"]["name"]}


def test_ports_match(overlay: Overlay) -> None:
    for name, settings in SERVICES.items():
        (pod,) = (pod for pod in overlay.pods if pod.owner == f"Deployment/{name}")
        assert pod.ports["http"] == settings.model_fields["port"].default
    for each in overlay.of_kind("Service"):
        (pod,) = overlay.selected({"matchLabels": each["spec"]["selector"]})
        for port in each["spec"]["ports"]:
            assert port["port"] == pod.ports[port["targetPort"]]
    ports = {
        each["metadata"]["name"]: {port["port"] for port in each["spec"]["ports"]}
        for each in overlay.of_kind("Service")
    }
    for route in overlay.of_kind("HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule.get("backendRefs", []):
                assert backend["port"] in ports[backend["name"]]
    for config in overlay.of_kind("ConfigMap"):
        for host, port in re.findall(r"://([a-z-]+):([0-9]+)", "\n".join(config["data"].values())):
            assert host == "localhost" or int(port) in ports[host]


def test_every_configured_setting_exists(overlay: Overlay) -> None:
    for name, settings in SERVICES.items():
        names = {field.upper() for field in settings.model_fields}
        assert overlay.named("ConfigMap", name)["data"].keys() <= names
        for pod in pods_of_services(overlay):
            if service_of(pod) == name:
                (container,) = pod.containers
                assert "env" not in container
                (source,) = container["envFrom"]
                assert overlay.named("ConfigMap", name)["metadata"]["name"] == source["configMapRef"]["name"]


def test_migrations_run_in_a_job_and_not_in_the_pods(overlay: Overlay) -> None:
    for name in SERVICES:
        assert overlay.named("ConfigMap", name)["data"]["MIGRATE_ON_START"] == "false"
        (pod,) = (pod for pod in overlay.pods if pod.owner == f"Job/{name}-migration")
        (container,) = pod.containers
        assert container["args"] == ["migrate"]
        assert (
            container["image"]
            == overlay.named("Deployment", name)["spec"]["template"]["spec"]["containers"][0]["image"]
        )


def secrets_of(overlay: Overlay, pod: Pod, folder: Path) -> Path:
    """Lay out the files in /run/secrets as the kubelet does: with symbolic links to a folder of the present version."""
    present = folder / "..2026"
    present.mkdir(parents=True)
    (folder / "..data").symlink_to(present.name)
    write_secrets(folder / "made")
    (volume,) = (each for each in pod.spec["volumes"] if each["name"] == "secrets")
    for source in volume["projected"]["sources"]:
        secret = source["secret"]
        if overlay.name == "development":
            data = overlay.of_kind("Secret")
            (values,) = (each["data"] for each in data if each["metadata"]["name"] == secret["name"])
            files = {key: base64.b64decode(value).decode() for key, value in values.items()}
        elif "items" in secret:
            files = {item["path"]: "from-the-operator-3f1f6ab2c9" for item in secret["items"]}
        else:
            files = {
                key: (folder / "made" / file).read_text() for key, file in documented_secrets()[secret["name"]].items()
            }
        for key, value in files.items():
            (present / key).write_text(value)
            if not (folder / key).is_symlink():
                (folder / key).symlink_to(Path("..data", key))
    return folder


def documented_secrets() -> dict[str, dict[str, str]]:
    """The files of each Secret that docs/kubernetes.md creates for production, by key."""
    page = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8").replace("\\\n", "")
    commands = re.findall(r"create secret generic (\S+)(.*)", page)
    return {name: dict(re.findall(r"--from-file=(\w+)=secrets/(\w+)", rest)) for name, rest in commands}


def test_every_secret_is_a_setting(overlay: Overlay, tmp_path: Path) -> None:
    for pod in pods_of_services(overlay):
        folder = secrets_of(overlay, pod, tmp_path / pod.owner)
        names = {path.name for path in folder.iterdir() if path.is_symlink()} - {"..data", "database_ca.crt"}
        assert names
        assert names <= SERVICES[service_of(pod)].model_fields.keys()
        (container,) = pod.containers
        assert "/run/secrets" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_the_services_accept_their_settings(
    overlay: Overlay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for pod in pods_of_services(overlay):
        for name in SETTINGS:
            monkeypatch.delenv(name, raising=False)
        for name, value in overlay.named("ConfigMap", service_of(pod))["data"].items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(configuration, "SECRETS", secrets_of(overlay, pod, tmp_path / pod.owner))
        settings = configuration.load(SERVICES[service_of(pod)])
        assert settings.database_password
        assert settings.environment == overlay.name
        assert not settings.migrate_on_start
    assert capsys.readouterr().err == ""


def test_network_policies_select_existing_pods(overlay: Overlay) -> None:
    namespaces = {"kube-system", "cnpg-system"}
    for policy in overlay.of_kind("NetworkPolicy"):
        spec = policy["spec"]
        targets = overlay.selected(spec["podSelector"])
        assert targets, policy["metadata"]["name"]
        for rule in spec.get("ingress", []):
            require_ports(targets, rule)
            for peer in rule["from"]:
                require_peer(overlay, peer, namespaces)
        for rule in spec.get("egress", []):
            for peer in rule.get("to", []):
                require_peer(overlay, peer, namespaces)
                if "podSelector" in peer:
                    require_ports(overlay.selected(peer["podSelector"]), rule)


def require_peer(overlay: Overlay, peer: dict[str, Any], namespaces: set[str]) -> None:
    if "podSelector" in peer:
        assert overlay.selected(peer["podSelector"])
        return
    ((label, value),) = peer["namespaceSelector"]["matchLabels"].items()
    assert (label == "twinlatch-access" and value in ("gateway", "monitoring")) or value in namespaces


def require_ports(pods: list[Pod], rule: dict[str, Any]) -> None:
    for pod in pods:
        for port in rule["ports"]:
            if pod.containers:
                assert port["port"] in {*pod.ports, *pod.ports.values()}


def test_everything_is_denied_that_no_policy_allows(overlay: Overlay) -> None:
    default = overlay.named("NetworkPolicy", "default-deny")["spec"]
    assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    # Who may connect to whom, without DNS, which all may, and without what the operator of the databases needs.
    allowed = set()
    for policy in overlay.of_kind("NetworkPolicy"):
        if not policy["metadata"]["name"].endswith("-cluster"):
            for target in overlay.selected(policy["spec"]["podSelector"]):
                for rule in policy["spec"].get("ingress", []):
                    allowed |= {(who, name_of(target)) for peer in rule["from"] for who in peers(overlay, peer)}
    monitoring = {("monitoring", name) for name in SERVICES} if overlay.name == "production" else set()
    assert allowed == monitoring | {
        ("gateway", "user-service"),
        ("gateway", "product-service"),
        ("product-service", "user-service"),
        ("user-service", "limits"),
        ("user-service", "user-database"),
        ("user-service-migration", "user-database"),
        ("product-service", "product-database"),
        ("product-service-migration", "product-database"),
    }


def peers(overlay: Overlay, peer: dict[str, Any]) -> set[str]:
    if "podSelector" in peer:
        return {name_of(pod) for pod in overlay.selected(peer["podSelector"])}
    return {peer["namespaceSelector"]["matchLabels"]["twinlatch-access"]}


def name_of(pod: Pod) -> str:
    return pod.labels["app.kubernetes.io/name"]


def test_what_may_connect_may_also_leave(overlay: Overlay) -> None:
    """A connection between two pods needs a rule at both ends."""
    leaving = set()
    for policy in overlay.of_kind("NetworkPolicy"):
        for source in overlay.selected(policy["spec"]["podSelector"]):
            for rule in policy["spec"].get("egress", []):
                for peer in rule.get("to", []):
                    if "podSelector" in peer:
                        leaving |= {(name_of(source), to) for to in peers(overlay, peer) if to != name_of(source)}
    assert leaving == {
        ("product-service", "user-service"),
        ("user-service", "limits"),
        ("user-service", "user-database"),
        ("user-service-migration", "user-database"),
        ("product-service", "product-database"),
        ("product-service-migration", "product-database"),
    }


def test_production_has_images_by_digest_and_no_secret(production: Overlay) -> None:
    images = {container["image"] for pod in production.pods for container in pod.containers}
    assert len(images) == 3
    assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in images)
    assert not production.of_kind("Secret")


def test_databases_acknowledge_no_commit_that_a_failover_would_lose(production: Overlay) -> None:
    clusters = production.of_kind("Cluster")
    assert {each["metadata"]["name"] for each in clusters} == {"user-database", "product-database"}
    for each in clusters:
        assert each["spec"]["instances"] == 3
        assert each["spec"]["postgresql"]["synchronous"]["dataDurability"] == "required"


def backend_of(route: dict[str, Any], path: str) -> str | None:
    """The Service that gets a request for this path: by the longest prefix of whole segments, if any Service does."""
    rules = {
        match["path"]["value"].rstrip("/"): rule
        for rule in route["spec"]["rules"]
        for match in rule.get("matches", [{"path": {"type": "PathPrefix", "value": "/"}}])
        if match["path"]["type"] == "PathPrefix"
    }
    longest = max((prefix for prefix in rules if f"{path}/".startswith(f"{prefix}/")), key=len)
    return next((backend["name"] for backend in rules[longest].get("backendRefs", [])), None)


def test_the_gateway_forwards_no_operation_for_services_and_gateways(production: Overlay) -> None:
    for name in SERVICES:
        route = production.named("HTTPRoute", name)
        document = json.loads((ROOT / name / "openapi.json").read_text(encoding="utf-8"))
        internal = {"/validate-token", "/introspect", "/forward-auth"} & document["paths"].keys()
        assert len(internal) == (3 if name == "user-service" else 0)
        for path in (*internal, *(f"{path}/x" for path in internal)):
            assert backend_of(route, path) is None, path
        for path in ("/", *document["paths"].keys() - internal):
            assert backend_of(route, path) == name, path


def test_prometheus_scrapes_each_pod_of_both_services(production: Overlay) -> None:
    (monitor,) = production.of_kind("ServiceMonitor")
    scraped = [each for each in production.of_kind("Service") if matches(monitor["spec"]["selector"], labels_of(each))]
    assert {each["metadata"]["name"] for each in scraped} == SERVICES.keys()
    (endpoint,) = monitor["spec"]["endpoints"]
    for each in scraped:
        (port,) = (port for port in each["spec"]["ports"] if port["name"] == endpoint["port"])
        settings = production.named("ConfigMap", each["metadata"]["name"])["data"]
        assert settings["METRICS_PORT"] == str(port["port"])


def labels_of(resource: dict[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = resource["metadata"]["labels"]
    return labels
