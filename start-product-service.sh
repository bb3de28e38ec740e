#!/bin/sh
# Installs what the product service needs, migrates its database and runs it in the foreground. The service replaces this
# process: a signal to the script's process id stops it. All settings can come from the environment.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null 2>&1; then
    echo "$0: can't find $python: install Python 3.11 or newer, or set PYTHON to the path of one." >&2
    exit 1
fi
exec "$python" "$here/dev.py" serve product-service "$@"
