"""The commands of dev.py: the first line of each docstring is its help."""

import argparse
import functools
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools import compatibility, expanding, images, kubernetes, postman, processes, production
from tools.console import PROGRAM, CommandError, say
from tools.environment import (
    BIN,
    BUILD_REQUIREMENTS,
    DEVELOPMENT_REQUIREMENTS,
    PYTHON,
    TOOLS,
    install,
    install_for_development,
    tools_requirements,
)
from tools.processes import ServiceGroup, become, is_ready, require_free, run
from tools.service_settings import data_folder, environments, require_different
from tools.services import (
    PRODUCT,
    ROOT,
    SERVICES,
    USER,
    Service,
    all_libraries,
    distribution_name,
    libraries_of,
    services_present,
)

PRODUCTION = "compose.production.yml"

POSTMAN_COLLECTION = "twinlatch.postman_collection.json"


def _module(service: Service, *words: str) -> list[str]:
    return [PYTHON, "-m", service.module, *words]


def _ports(args: argparse.Namespace) -> dict[Service, int]:
    return {service: getattr(args, service.folder) for service in SERVICES.values()}


def _serve_with_reload(service: Service) -> list[str]:
    folders = [service.folder, *libraries_of([service.folder])]
    return ["serve"] + [f"--reload={ROOT / folder / 'src'}" for folder in folders]


def _port_options(ports: Mapping[Service, int]) -> str:
    return "".join(f" {each.port_option} {port}" for each, port in ports.items() if port != each.port)


def up(args: argparse.Namespace) -> int:
    """Start all services and show their logs; Ctrl-C stops them."""
    ports = _ports(args)
    require_different(ports)
    settings = environments(args.data_dir, ports)
    install(list(ports))
    for service, port in ports.items():
        require_free(port, service)
    with ServiceGroup() as crew:
        for service in ports:
            words = _serve_with_reload(service) if args.reload else []
            crew.start(service, _module(service, *words), settings[service])
        within = processes.READY_WITHIN
        for service, port in ports.items():
            if not crew.watch(until=functools.partial(is_ready, port), within=within):
                raise CommandError(f"The {service.folder} was not ready at port {port} within {within:.0f} s.")
        width = max(len(service.folder) for service in ports)
        for service, port in ports.items():
            say(f"{service.folder:{width}}  http://localhost:{port}/docs")
        say("Next, in another terminal, add two accounts and a few dozen products:")
        say(f"  {PROGRAM} seed{_port_options(ports)}")
        say("or create an account of your own:")
        # Quoted for sh and cmd alike.
        account = r'"{\"username\": \"maria\", \"password\": \"correct horse battery staple\"}"'
        say(f'  curl http://localhost:{ports[USER]}/register -H "Content-Type: application/json" -d {account}')
        say("Press Ctrl-C to stop all services.")
        crew.watch()
    return 0


def serve(args: argparse.Namespace) -> int:
    """Run one service in the foreground, with the settings of the environment and of its .env."""
    service = SERVICES[args.service]
    install([service])
    become(_module(service), ROOT / service.folder)


def manage(args: argparse.Namespace) -> int:
    """Run a command of a service, such as create-admin of the user service; without one, list them."""
    service = SERVICES[args.service]
    install([service])
    become(_module(service, *(args.arguments or ["--help"])), ROOT / service.folder)


def check(_: argparse.Namespace) -> int:
    """Run the linters, the formatter and the type checker, look for breaking changes of the API and in migrations."""
    install_for_development()
    dockerfiles = _relative("*-service/Dockerfile")
    ruff, mypy = [PYTHON, "-m", "ruff"], [PYTHON, "-m", "mypy"]
    commands = [[*ruff, "check"], [*ruff, "format", "--check"], mypy]
    # The tests of each package are checked in a run of their own, because two packages may name test modules alike.
    packages = [*_relative("libs/*/tests"), *_relative("*-service/tests")]
    commands += [[*mypy, str(Path(tests).with_name("src")), tests] for tests in packages]
    commands += [[str(BIN / "lint-imports")], [str(BIN / "hadolint"), *dockerfiles]]
    failed = [command for command in commands if run(command).returncode != 0]
    if failed:
        names = [" ".join(command).removeprefix(f"{PYTHON} -m ") for command in failed]
        raise CommandError(f"Failed: {', '.join(names)}.")
    invalid = kubernetes.invalid_overlays()
    if invalid:
        raise CommandError(f"These overlays of deploy/kubernetes are invalid: {', '.join(invalid)}.")
    contracting = expanding.problems(ROOT)
    for problem in contracting:
        say(problem)
    if contracting:
        raise CommandError("A migration takes something away from the version that still runs during an upgrade.")
    _require_compatibility()
    return 0


def _require_compatibility() -> None:
    """Compare the OpenAPI documents with those of the last release."""
    release = compatibility.last_release(ROOT)
    if release is None:
        say("No tag v* yet: the OpenAPI documents were not compared with a release.")
        return
    broken = []
    for service in services_present():
        path = f"{service.folder}/openapi.json"
        old = compatibility.document_of(ROOT, release, path)
        new = json.loads((ROOT / path).read_text(encoding="utf-8"))
        if old is not None and not compatibility.is_new_major_version(old, new):
            broken += [f"{service.folder}: {change}" for change in compatibility.breaking_changes(old, new)]
    for change in broken:
        say(change)
    if broken:
        raise CommandError(f"Clients of {release} break; that needs a new major version.")
    say(f"The OpenAPI documents are compatible with {release}.")


def _relative(pattern: str) -> list[str]:
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))


def fix(_: argparse.Namespace) -> int:
    """Fix what the linter and the formatter can fix."""
    install_for_development()
    return max([run([PYTHON, "-m", "ruff", *tool]).returncode for tool in (["check", "--fix"], ["format"])])


def migrate(args: argparse.Namespace) -> int:
    """Migrate the databases of all services."""
    settings = environments(args.data_dir)
    install(list(settings))
    for service, environment in settings.items():
        if run(_module(service, "migrate"), ROOT / service.folder, env=environment).returncode != 0:
            raise CommandError(f"The database of the {service.folder} could not be migrated.")
    return 0


def revision(args: argparse.Namespace) -> int:
    """Generate a migration from the changes in a service's models."""
    service = SERVICES[args.service]
    install_for_development()
    become(_module(service, "revision", args.message), ROOT / service.folder)


def openapi(_: argparse.Namespace) -> int:
    """Write the OpenAPI documents of all services, and the Postman collection."""
    documents = {}
    for service in install_for_development():
        folder = ROOT / service.folder
        command = [PYTHON, "-X", "utf8", "-m", service.module, "openapi"]
        document = run(command, folder, stdout=subprocess.PIPE)
        if document.returncode != 0:
            raise CommandError(f"The {service.folder} did not print its OpenAPI document.")
        (folder / "openapi.json").write_text(document.stdout.rstrip("\n") + "\n", encoding="utf-8", newline="\n")
        say(f"Wrote {service.folder}/openapi.json.")
        documents[service.folder] = (f"http://localhost:{service.port}", json.loads(document.stdout))
    collection = json.dumps(postman.collection(documents), indent=2, ensure_ascii=False) + "\n"
    (ROOT / POSTMAN_COLLECTION).write_text(collection, encoding="utf-8", newline="\n")
    say(f"Wrote {POSTMAN_COLLECTION}.")
    return 0


def diagrams(_: argparse.Namespace) -> int:
    """Render the diagrams of the documentation."""
    install_for_development()
    for source in sorted((ROOT / "docs" / "images").glob("*.d2")):
        render(source, source.with_suffix(".svg"))
    return 0


def render(source: Path, picture: Path) -> None:
    """Render a D2 diagram as SVG, for light and dark mode; the viewer's browser chooses."""
    options = ["--theme", "0", "--dark-theme", "200", "--pad", "10", "--omit-version"]
    if run([str(BIN / "d2"), *options, str(source), str(picture)]).returncode != 0:
        raise CommandError(f"{source.name} could not be rendered.")


def seed(args: argparse.Namespace) -> int:
    """Add two accounts and a few dozen products to the running services, or a large catalogue."""
    ports = _ports(args)
    for service in (USER, PRODUCT):
        if not is_ready(ports[service]):
            hint = f"start the services with {PROGRAM} up"
            raise CommandError(f"The {service.folder} does not answer at port {ports[service]}: {hint}.")
    install([PRODUCT])
    if args.data_dir:
        os.environ["DATA_DIR"] = data_folder(args.data_dir, PRODUCT)
    urls = [f"--users-url=http://127.0.0.1:{ports[USER]}", f"--products-url=http://127.0.0.1:{ports[PRODUCT]}"]
    become([PYTHON, "-m", f"{PRODUCT.module}.demo.seed", *urls, *args.more], ROOT / PRODUCT.folder)


def lock(args: argparse.Namespace) -> int:
    """Update the lock files from the requirements of the packages."""
    install_for_development()
    for target, sources in _lock_files().items():
        flags = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-header"]
        for library in all_libraries():
            flags += ["--no-emit-package", distribution_name(library)]
        flags += ["-q", *(["--upgrade"] if args.upgrade else [])]
        if run([PYTHON, "-m", "uv", "pip", "compile", *sources, *flags, "-o", target]).returncode != 0:
            raise CommandError(f"{target} could not be written.")
        say(f"Wrote {target}.")
    return 0


def make_secrets(args: argparse.Namespace) -> int:
    """Write the secrets of compose.production.yml that do not exist yet, one file each."""
    folder = Path(args.folder)
    for name in production.write_secrets(folder):
        say(f"Wrote {folder / name}.")
    say(f"{folder} has all secrets. Keep a copy where the backups are not.")
    return 0


def pin_images(_: argparse.Namespace) -> int:
    """Pin the base images of the containers to the digests that the registry has for their tags; needs Docker."""
    composed = ("docker-compose.yml", "docker-compose.observability.yml", PRODUCTION)
    files = [ROOT / path for path in (*_relative("*-service/Dockerfile"), *composed)]
    pinned = {file: images.pinned(file.read_text(encoding="utf-8"), images.registry_digest) for file in files}
    for file, text in pinned.items():
        file.write_text(text, encoding="utf-8", newline="\n")
        say(f"Pinned the images of {file.relative_to(ROOT).as_posix()}.")
    return 0


def _lock_files() -> Mapping[str, Sequence[str]]:
    """The lock files, in the order of writing, and what each is compiled from."""
    packages = [f"{folder}/pyproject.toml" for folder in (*all_libraries(), *SERVICES)]
    targets = {
        BUILD_REQUIREMENTS: ["--group", "build"],
        DEVELOPMENT_REQUIREMENTS: ["--group", "dev", *packages, "--all-extras"],
        **{tools_requirements(name): ["--group", name] for name in TOOLS},
    }
    for folder in SERVICES:
        # The versions are those of the development requirements, so that production runs what was tested. With the
        # extras, an image needs only a setting to export traces.
        targets[f"{folder}/requirements.txt"] = [
            f"{folder}/pyproject.toml",
            "--all-extras",
            "-c",
            DEVELOPMENT_REQUIREMENTS,
        ]
    return targets
