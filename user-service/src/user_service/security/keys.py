"""The keys: one signs, the configured one or in development one that is made once and kept; others are accepted."""

import os
import secrets
from contextlib import suppress
from pathlib import Path

from pydantic import SecretStr


def signing_key(secret_key: SecretStr | None, development_key_file: Path) -> bytes:
    """The configured key; without one, a key that a first start in development makes and keeps in the file.

    Raises OSError where it cannot be kept.
    """
    if secret_key is not None:
        return secret_key.get_secret_value().encode()
    return _kept(development_key_file)


def _kept(path: Path) -> bytes:
    with suppress(FileNotFoundError):
        return path.read_bytes()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    draft.touch(mode=0o600)
    draft.write_text(secrets.token_hex(32), encoding="ascii")
    try:
        # Of several processes that start at once one wins, and no one sees half a file.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_bytes()
