"""The rendered overlays of deploy/kubernetes, as tests read them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import yaml

from tools import kubernetes

Resource = dict[str, Any]

CUSTOM_KINDS = {"Gateway", "HTTPRoute", "Cluster", "ServiceMonitor"}
"""Kinds that are no part of Kubernetes: the components need an operator for each."""


@dataclass(frozen=True)
class Pod:
    """A kind of pod: the template of a workload, or the instances of a CloudNativePG cluster."""

    owner: str
    """Kind and name, such as `Deployment/user-service`."""

    labels: dict[str, str]
    spec: Resource = field(default_factory=dict)

    @property
    def containers(self) -> list[Resource]:
        return [*self.spec.get("initContainers", []), *self.spec.get("containers", [])]

    @property
    def ports(self) -> dict[str, int]:
        """The ports of its containers, by name."""
        return {port["name"]: port["containerPort"] for each in self.containers for port in each.get("ports", [])}


class Overlay:
    def __init__(self, name: str) -> None:
        self.name = name
        self.resources: list[Resource] = [each for each in yaml.safe_load_all(kubernetes.render(name)) if each]

    def of_kind(self, *kinds: str) -> list[Resource]:
        return [each for each in self.resources if each["kind"] in kinds]

    def named(self, kind: str, name: str) -> Resource:
        """The resource with this name, or with a hash after it."""
        (found,) = (
            each for each in self.of_kind(kind) if re.fullmatch(f"{name}(-[a-z0-9]{{10}})?", each["metadata"]["name"])
        )
        return found

    @cached_property
    def pods(self) -> list[Pod]:
        return [*self._pods_of_workloads(), *self._pods_of_clusters()]

    def _pods_of_workloads(self) -> Iterator[Pod]:
        for each in self.of_kind("Deployment", "StatefulSet", "Job"):
            template = each["spec"]["template"]
            yield Pod(f"{each['kind']}/{each['metadata']['name']}", template["metadata"]["labels"], template["spec"])

    def _pods_of_clusters(self) -> Iterator[Pod]:
        """The operator makes these pods, restricted ones, so only their labels are known."""
        for each in self.of_kind("Cluster"):
            name = each["metadata"]["name"]
            yield Pod(f"Cluster/{name}", {**each["spec"]["inheritedMetadata"]["labels"], "cnpg.io/cluster": name})

    def selected(self, selector: Resource) -> list[Pod]:
        return [pod for pod in self.pods if matches(selector, pod.labels)]


def matches(selector: Resource, labels: dict[str, str]) -> bool:
    """Whether a label selector, of matchLabels and of matchExpressions with `In`, selects these labels."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= labels.items())
