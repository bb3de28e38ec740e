"""The signing key: configured, or in development generated once and saved."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr


def signing_key(secret_key: SecretStr | None, development_key_file: Path) -> bytes:
    """The configured key. Without one, the key in the development key file, which is created if it doesn't exist.

    Raises OSError if the file can't be read or written.
    """
    if secret_key is not None:
        return secret_key.get_secret_value().encode()
    return _load_or_create(development_key_file)


def _load_or_create(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    temporary.touch(mode=0o600)
    temporary.write_text(secrets.token_hex(32), encoding="ascii")
    try:
        # Linking is atomic: if several processes start at once, one wins, and none reads a partial file.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
    return path.read_bytes()
