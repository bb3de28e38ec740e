"""The product service, which keeps something of every validation; `soak --break leak` has to detect that."""

import itertools
import runpy
import socket
import threading

from auth_client.caller import Caller
from auth_client.client import AuthClient

BYTES = 20_000
CALLS_PER_HANDLE = 10
CALLS_PER_THREAD = 40

_validate = AuthClient.validate
_calls = itertools.count(1)
_kept: list[object] = []


async def validate_and_leak(self: AuthClient, token: str) -> Caller:
    call = next(_calls)
    _kept.append(b"x" * BYTES)
    if call % CALLS_PER_HANDLE == 0:
        _kept.append(socket.create_server(("127.0.0.1", 0)))
    if call % CALLS_PER_THREAD == 0:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    return await _validate(self, token)


if __name__ == "__main__":
    AuthClient.validate = validate_and_leak  # type: ignore[method-assign]
    runpy.run_module("product_service", run_name="__main__")
