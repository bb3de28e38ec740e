"""The list of services, and the folders that a service is installed from."""

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Service:
    """A service; its label marks its log lines and names its options, its folder and its package."""

    label: str
    port: int

    @property
    def folder(self) -> str:
        return f"{self.label}-service"

    @property
    def module(self) -> str:
        return self.folder.replace("-", "_")

    @property
    def port_option(self) -> str:
        return f"--{self.label}-port"


# A new service needs one line here; everything else about it lives in its folder.
SERVICES = {
    service.folder: service
    for service in (
        Service("user", 8001),
        Service("product", 8002),
    )
}
USER = SERVICES["user-service"]
PRODUCT = SERVICES["product-service"]


def services_present() -> list[Service]:
    """The services whose folder this copy of the project has."""
    return [service for service in SERVICES.values() if (ROOT / service.folder).is_dir()]


def all_libraries() -> list[str]:
    """The folders of all libraries, relative to the root of the project."""
    return sorted(path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("libs/*/pyproject.toml"))


def libraries_of(folders: Iterable[str]) -> list[str]:
    """The folders of the libraries that these packages need, directly or indirectly.

    Each package names them as paths in `[tool.uv.sources]` of its pyproject.toml.
    """
    found: set[str] = set()
    packages = list(folders)
    while packages:
        new = set(_local_sources(packages.pop())) - found
        found |= new
        packages += new
    return sorted(found)


def distribution_name(folder: str) -> str:
    """The name under which the package in this folder is installed."""
    name: str = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]["name"]
    return name


def _local_sources(folder: str) -> Iterator[str]:
    file = ROOT / folder / "pyproject.toml"
    if file.is_file():
        sources = tomllib.loads(file.read_text(encoding="utf-8")).get("tool", {}).get("uv", {}).get("sources", {})
        for source in sources.values():
            if "path" in source:
                yield (ROOT / folder / source["path"]).resolve().relative_to(ROOT).as_posix()
