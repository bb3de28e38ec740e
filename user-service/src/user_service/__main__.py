"""Command line of the user service; without a command, it runs the service."""

from chassis.process.server import run_command
from user_service.commands import COMMANDS
from user_service.main import documented_app, migrations, prepare
from user_service.settings import Settings

if __name__ == "__main__":
    run_command(
        Settings,
        migrations,
        "user_service.main:create_worker_app",
        documented_app,
        prepare=prepare,
        extra_commands=COMMANDS,
    )
