"""The verdicts of the attacks, and that a service that was taken away is noticed."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from testkit.processes import Services
from tests.attack import attack, wire
from tests.attack.attack import Attack
from tests.attack.measuring import LEAST_RATE, Figure, Result, ServiceEnded, Target


@pytest.mark.parametrize(
    ("figure", "holds", "text"),
    [
        (Figure("CPU", 2.345, "s"), True, "CPU 2.35 s"),
        (Figure("CPU", 2.0, "s", most=2), True, "CPU 2 s (at most 2)"),
        (Figure("writes", 19, "%", least=20), False, "writes 19 % (at least 20) <-- broken"),
        (Figure("in between", 3, least=1, most=2), False, "in between 3 (at least 1, at most 2) <-- broken"),
    ],
)
def test_a_figure_tells_its_bounds(figure: Figure, *, holds: bool, text: str) -> None:
    assert (figure.holds, str(figure)) == (holds, text)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Run the command with stand-ins for two attacks; returns its status and the lines that it prints."""

    @contextmanager
    def nothing(*_: object) -> Iterator[None]:
        yield

    def holds(_: Target) -> Result:
        return Result([Figure("CPU", 1, "s", most=2)], Counter({413: 2, None: 1}))

    def ends(_: Target) -> Result:
        raise ServiceEnded("user-service ended with -9")

    def crashes(_: Target) -> Result:
        raise ValueError("a mistake in an attack")

    functions = {"holds": holds, "ends": ends, "crashes": crashes}
    monkeypatch.setattr(attack, "ATTACKS", {name: Attack("little", each) for name, each in functions.items()})
    monkeypatch.setattr(attack, "running", nothing)
    monkeypatch.setattr(attack, "databases", nothing)
    monkeypatch.setattr(attack, "SIGNALS", ())

    def run(*words: str) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["attack", *words])
        status = attack.main()
        return status, capsys.readouterr().out.splitlines()

    return run


def test_the_status_is_0_if_all_bounds_hold_on_both_databases(run: Callable[..., tuple[int, list[str]]]) -> None:
    line = "holds      holds   little: CPU 1 s (at most 2); responses: 2 of 413, 1 of no response"
    assert run("holds") == (0, ["On SQLite:", line, "On PostgreSQL:", line, "", "All bounds hold."])


def test_the_status_is_1_if_a_service_ends(run: Callable[..., tuple[int, list[str]]]) -> None:
    status, lines = run("ends", "holds", "--short", "--database", "sqlite")
    assert status == 1
    assert lines[1] == "ends       BROKEN  little: user-service ended with -9"
    assert lines[-1] == "BROKEN: ends on SQLite."


def test_the_status_is_2_if_an_attack_could_not_run(run: Callable[..., tuple[int, list[str]]]) -> None:
    assert run("crashes", "--database", "sqlite")[0] == 2
    with pytest.raises(SystemExit, match="2"):
        run("unknown")


def test_a_bystander_notices_a_service_that_does_not_respond(services: Services) -> None:
    target = Target(services, seconds=2, is_short=True)
    with target.attacked(services.users) as idle:
        target.until_the_end(lambda: wire.status_of(services.users.port, wire.request("GET", "/me"), within=5))
    assert idle.rate > LEAST_RATE
    try:
        with target.attacked(services.users) as paused:
            services.users.pause()
            time.sleep(target.seconds)
    finally:
        services.users.resume()
    assert paused.rate < LEAST_RATE
