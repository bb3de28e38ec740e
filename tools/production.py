"""The secrets of compose.production.yml."""

import secrets
from collections.abc import Callable
from pathlib import Path

from tools.console import CommandError

_BYTES = 32


def write_secrets(folder: Path) -> list[str]:
    """Write a file for each secret that the folder has none for; return their names. A file that exists stays.

    Raises CommandError if the file of a service key is missing beside those of which it is a part.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (folder / "service_keys").exists() and not (folder / "service_key").exists():
        raise CommandError(f"{folder / 'service_keys'} exists, but not service_key, which is one of these keys.")
    contents: dict[str, Callable[[], str]] = {
        "secret_key": _random,
        # For a rotation: docs/key-rotation.md.
        "secret_keys_accepted": str,
        "service_key": _random,
        "service_keys": lambda: f"product-service:{(folder / 'service_key').read_text(encoding='ascii').strip()}",
        "user_database_password": _random,
        "product_database_password": _random,
    }
    missing = [name for name in contents if not (folder / name).exists()]
    for name in missing:
        path = folder / name
        path.touch(mode=0o600)
        path.write_text(contents[name](), encoding="ascii")
        # The containers have other users. On this machine, the folder keeps them out.
        path.chmod(0o444)
    return missing


def _random() -> str:
    return secrets.token_hex(_BYTES)
