"""The processes of the product service: its command line, which serves if it gets no command, and its workers."""

from typing import TYPE_CHECKING

from chassis.process.startup import importing

if TYPE_CHECKING:
    from fastapi import FastAPI


def create_worker_app() -> "FastAPI":
    """The application of one worker process. No other process imports it."""
    with importing():
        from product_service import main

        return main.create_worker_app()


if __name__ == "__main__":
    with importing():
        from chassis.process.server import run_command
        from product_service.composition import migrations
        from product_service.settings import Settings
    run_command(
        Settings,
        migrations,
        "product_service.__main__:create_worker_app",
        "product_service.main:documented_app",
        extra_commands="product_service.commands:COMMANDS",
    )
