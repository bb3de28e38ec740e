"""The command line of dev.py."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tools.commands import (
    check,
    diagrams,
    fix,
    lock,
    make_secrets,
    manage,
    migrate,
    openapi,
    pin_images,
    revision,
    seed,
    serve,
    up,
)
from tools.console import CommandError, say
from tools.processes import Interrupted, interrupt, on_signal
from tools.services import ROOT, SERVICES
from tools.testing import (
    attack,
    audit,
    bench,
    fuzz,
    load,
    prove,
    screenshots,
    soak,
    test,
    test_browser,
    test_clients,
    test_containers,
    test_discovery,
    test_failover,
    test_gateways,
    test_installation,
    test_large,
    test_observability,
    test_processes,
    test_upgrade,
    test_windows,
    traces,
)

Action = Callable[[argparse.Namespace], int]
# Each is a module of bench/.
BENCHMARKS = [
    "services",
    "files",
    "data-scale",
    "load-scale",
    "scale-out",
    "endpoint-styles",
    "login-timing",
    "validation-client",
    "tracing",
]
# Their arguments go to another program as they are; argparse would take its options for those of dev.py.
PASSING_ALL_ON: tuple[Action, ...] = (
    test,
    test_browser,
    test_clients,
    test_containers,
    test_discovery,
    test_failover,
    test_gateways,
    test_installation,
    test_large,
    test_observability,
    test_processes,
    test_windows,
    prove,
    fuzz,
    attack,
    soak,
    load,
)


def products_option(text: str) -> list[str]:
    """The option of the seed for so many products."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("the number of products is a whole number")
    return [f"--products={int(text)}"]


def port_number(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 1 << 16):
        raise argparse.ArgumentTypeError("a port is a number from 1 to 65535")
    return int(text)


def command_name(action: Action) -> str:
    return action.__name__.replace("_", "-")


def _option(*names: str, **details: Any) -> argparse.ArgumentParser:
    """A parser of one argument, which several commands may take."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(*names, **details)
    return parser


def parse(words: Sequence[str]) -> argparse.Namespace:
    for action in PASSING_ALL_ON:
        if words[:1] == [command_name(action)] and words[1:] not in (["-h"], ["--help"]):
            return argparse.Namespace(action=action, arguments=words[1:])
    if words[:1] == [command_name(bench)] and words[1:] and words[1].startswith("--") and words[1] != "--help":
        # An option of the first benchmark, which argparse would take for one of dev.py.
        words = [words[0], BENCHMARKS[0], *words[1:]]

    ports = [
        _option(
            each.port_option,
            metavar="N",
            type=port_number,
            default=each.port,
            dest=each.folder,
            help=f"the port of the {each.folder}, {each.port} by default",
        )
        for each in SERVICES.values()
    ]
    data = _option("--data-dir", metavar="DIR", help="keep the data of all services in this folder")
    reload = _option("--reload", action="store_true", help="restart a service when its code changes")
    service = _option("service", metavar="SERVICE", choices=list(SERVICES), help=" or ".join(SERVICES))
    message = _option("message", metavar="MESSAGE", help="what the migration does, in a few words")
    upgrade = _option("--upgrade", action="store_true", help="upgrade to the newest versions allowed")
    revision_option = _option(
        "--from", metavar="REVISION", dest="revision", help="a tag, branch or commit; the newest tag v* by default"
    )
    products = _option(
        "--products",
        metavar="N",
        dest="more",
        type=products_option,
        default=[],
        help="add N more products directly to the database of the product service",
    )
    port = _option("--port", metavar="N", type=port_number, default=4318, help="the port, 4318 by default")
    benchmark = _option(
        "benchmark",
        metavar="BENCHMARK",
        nargs="?",
        choices=BENCHMARKS,
        default=BENCHMARKS[0],
        help=f"{' or '.join(BENCHMARKS)}; the first by default",
    )
    offline = _option("--offline", action="store_true", help="do not look for known vulnerabilities")
    output = _option(
        "--output",
        metavar="DIR",
        type=Path,
        default=ROOT / "build" / "sbom",
        help="where to write the bills of materials, build/sbom by default",
    )
    folder = _option("folder", metavar="FOLDER", nargs="?", default="secrets", help="the default is secrets")
    rest = _option("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="passed on unchanged")

    takes: dict[Action, list[argparse.ArgumentParser]] = {
        up: [*ports, data, reload],
        serve: [service],
        manage: [service, rest],
        test: [rest],
        test_clients: [rest],
        test_installation: [rest],
        test_processes: [rest],
        test_large: [rest],
        test_upgrade: [revision_option],
        test_observability: [rest],
        test_browser: [rest],
        test_containers: [rest],
        test_discovery: [rest],
        test_failover: [rest],
        test_gateways: [rest],
        test_windows: [rest],
        prove: [rest],
        fuzz: [rest],
        attack: [rest],
        soak: [rest],
        load: [rest],
        audit: [offline, output],
        traces: [port],
        check: [],
        fix: [],
        bench: [benchmark, rest],
        migrate: [data],
        revision: [service, message],
        openapi: [],
        diagrams: [],
        screenshots: [],
        seed: [*ports, data, products],
        lock: [upgrade],
        make_secrets: [folder],
        pin_images: [],
    }
    parser = argparse.ArgumentParser(prog="dev.py", description="Runs, tests and maintains the services.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for action, parents in takes.items():
        text = action.__doc__ or ""
        commands.add_parser(command_name(action), help=text, description=text, parents=parents).set_defaults(
            action=action
        )
    return parser.parse_args(words)


def main() -> int:
    """Run a command; returns the exit status."""
    args = parse(sys.argv[1:])
    on_signal(interrupt)
    try:
        status: int = args.action(args)
    except Interrupted as interrupted:
        number: int = interrupted.args[0]
        say(f"Stopped by {signal.Signals(number).name}.")
        return 128 + number
    except (CommandError, OSError) as problem:
        print(f"dev.py: {problem}", file=sys.stderr)
        return 1
    return status
