"""The command line of the product service. Without a command, it starts the server."""

from chassis.process.server import run_command
from product_service.commands import COMMANDS
from product_service.main import documented_app, migrations
from product_service.settings import Settings

if __name__ == "__main__":
    run_command(Settings, migrations, "product_service.main:create_worker_app", documented_app, extra_commands=COMMANDS)
