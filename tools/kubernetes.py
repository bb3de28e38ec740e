"""The manifests of deploy/kubernetes."""

import subprocess
from collections.abc import Sequence

from tools.console import CommandError
from tools.environment import BIN
from tools.processes import run
from tools.services import ROOT

OVERLAYS = ("development", "production")


def render(overlay: str) -> str:
    """The resources of an overlay, as YAML. Raises CommandError if kustomize can't make them."""
    folder = ROOT / "deploy" / "kubernetes" / "overlays" / overlay
    kustomize = run([str(BIN / "kubectl"), "kustomize", str(folder)], stdout=subprocess.PIPE)
    if kustomize.returncode != 0:
        raise CommandError(f"kustomize can't build the overlay {overlay}.")
    return kustomize.stdout


def invalid_overlays() -> Sequence[str]:
    """Validate all overlays against the schemas of the newest Kubernetes version; unknown fields are invalid.

    Resources of other APIs are left out: tests/clients validates them.
    """
    validate = [str(BIN / "kubernetes-validate"), "--strict", "--quiet", "--no-warn", "-"]
    return [overlay for overlay in OVERLAYS if run(validate, input=render(overlay)).returncode != 0]
