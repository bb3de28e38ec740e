#!/bin/sh
# Installs what the user service needs, migrates its database and runs it in the foreground, as this very process:
# a signal to the script's process id ends the service. Every setting may come from the environment.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "$0: there is no $python here: install Python 3.11 or newer, or name one with PYTHON=..." >&2
    exit 1
fi
exec "$python" "$here/dev.py" serve user-service "$@"
