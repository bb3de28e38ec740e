"""What is in the images, and which configuration a container refuses."""

import json
from pathlib import Path

import pytest

from tests.containers.composition import SERVICES, Composition, attempt, docker

KEY = "a key of more than thirty-two bytes for the tests"
OWN_DATABASE = "postgresql://service:a-password-of-our-own@127.0.0.1:1/service"


NOT_WRITABLE = "cannot start: /data is not writable for user 10001: change its permissions, or set DATA_DIR"


def ended(*words: str) -> tuple[int, list[str]]:
    """Run a container to its end: its status, and what it printed."""
    result = attempt("run", "--rm", *words)
    return result.returncode, result.stdout.splitlines()


def python_in(image: str, code: str, python: str = "python") -> str:
    return docker("run", "--rm", "--entrypoint", python, image, "-c", code)


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_one_service_and_the_chassis_and_nothing_to_build_or_test_with(
    composed: Composition, service: str
) -> None:
    image = composed.image(service)
    mine, other = (name.replace("-", "_") for name in sorted(SERVICES, key=lambda name: name != service))
    find = "import importlib.util as u, sys; print(*(name for name in sys.argv[1:] if u.find_spec(name)))"
    modules = [mine, other, "chassis", "auth_client", "testkit", "pip", "ensurepip", "flit_core", "pytest", "httpx"]
    # Only the product service calls the other one.
    expected = [mine, "chassis", *(["auth_client", "httpx"] if service == "product-service" else [])]
    assert docker("run", "--rm", "--entrypoint", "python", image, "-c", find, *modules).split() == expected
    for python in ("/usr/local/bin/python", "/opt/service/bin/python"):
        assert attempt("run", "--rm", "--entrypoint", python, image, "-m", "pip").returncode == 1
    script = """
        for tool in pip pip3 gcc cc g++ make ld git curl wget pytest uv; do command -v $tool; done
        for path in /build /opt/packages/%s*; do test -e "$path" && echo "$path"; done
        cd /opt/packages
        find chassis %s /data -name "test*" -o -name "conftest*" -o -name "Dockerfile*" -o -name ".env*"
        find /var/lib/apt/lists /var/cache/apt /var/log/apt /var/log/dpkg.log -type f 2>/dev/null
        true
    """
    assert docker("run", "--rm", "--entrypoint", "sh", image, "-c", script % (other, mine)) == ""


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_is_for_production_without_root_and_says_how_healthy_it_is(
    composed: Composition, service: str
) -> None:
    config = json.loads(docker("image", "inspect", composed.image(service)))[0]["Config"]
    assert config["User"] == "10001"
    assert {"ENVIRONMENT=production", "LOG_FORMAT=json", "DATA_DIR=/data"} <= set(config["Env"])
    assert not [variable for variable in config["Env"] if "SECRET" in variable or "PASSWORD" in variable]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    # Nanoseconds. A start takes that long on a busy machine, and is over with the first success.
    assert config["Healthcheck"]["StartPeriod"] >= 120 * 10**9
    writable = (
        "import os\n"
        "print(os.getuid(), os.getgid(), [f for f, _, _ in os.walk('/') if os.access(f, os.W_OK)"
        " and not f.startswith(('/proc', '/sys', '/dev'))])"
    )
    uid, gid, folders = python_in(composed.image(service), writable).split(" ", 2)
    assert "0" not in (uid, gid)
    assert set(eval(folders)) <= {"/data", "/tmp", "/var/tmp", "/run/lock"}  # A list of strings, printed just there.


def refused(*arguments: str) -> tuple[int, list[str]]:
    """The exit status of such a container and why it did not start, without warnings."""
    status, lines = ended(*arguments)
    return status, [line for line in lines if not line.startswith("warning: ")]


def test_production_rejects_a_missing_key_and_sample_values(composed: Composition) -> None:
    users, products = (composed.image(service) for service in SERVICES)
    known = "DATABASE_URL=postgresql://service:development-only@user-database/service"
    own = f"DATABASE_URL={OWN_DATABASE}"
    assert refused("-e", own, users) == (2, ["cannot start: SECRET_KEY must be set in production"])
    for image in (users, products):
        status, lines = refused("-e", f"SECRET_KEY={KEY}", image)
        assert (status, len(lines)) == (2, 1)
        assert lines[0].startswith("cannot start: DATABASE_URL must be set in production")
        status, lines = refused("-e", f"SECRET_KEY={KEY}", "-e", known, image)
        assert (status, len(lines)) == (2, 1)
        assert lines[0].startswith("cannot start: the database password is the sample from docker-compose.yml")
    status, lines = refused("-e", own, products)
    assert (status, len(lines)) == (2, 1), lines
    assert lines[0].startswith("cannot start: the database is unavailable")


def test_a_sqlite_database_without_a_volume_is_refused_where_nothing_can_be_written(composed: Composition) -> None:
    status, lines = ended("--read-only", "-e", "ENVIRONMENT=development", composed.image("product-service"))
    assert status == 2
    assert lines == [NOT_WRITABLE]


def test_a_data_folder_of_another_user_is_named(composed: Composition, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    products, users = (composed.image(service) for service in reversed(SERVICES))
    for image in (products, users):
        assert ended("-v", f"{tmp_path}:/data", "-e", "ENVIRONMENT=development", image) == (2, [NOT_WRITABLE])


@pytest.mark.parametrize("service", SERVICES)
def test_a_change_of_our_own_code_makes_a_small_layer(composed: Composition, service: str) -> None:
    history = docker(
        "history", "--no-trunc", "--format", "{{.Size}} {{.CreatedBy}}", "--human=false", composed.image(service)
    )
    copied = [line.split(" ", 1) for line in history.splitlines() if "COPY /opt/" in line]
    own, dependencies = ((int(size), command) for size, command in copied)
    assert "COPY /opt/packages " in own[1]
    assert own[0] < 2_000_000 < dependencies[0]
