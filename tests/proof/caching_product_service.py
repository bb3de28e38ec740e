"""The product service with token validations cached for a second, which `prove --break cache` has to detect."""

import runpy
import time

from auth_client.caller import Caller
from auth_client.client import AuthClient

CACHED_FOR = 1.0  # seconds

_validate = AuthClient.validate
_callers: dict[str, tuple[float, Caller]] = {}


async def validate_at_most_once_a_second(self: AuthClient, token: str) -> Caller:
    asked, caller = _callers.get(token, (float("-inf"), None))
    if caller is None or time.monotonic() - asked > CACHED_FOR:
        asked, caller = time.monotonic(), await _validate(self, token)
        _callers[token] = asked, caller
    return caller


if __name__ == "__main__":
    AuthClient.validate = validate_at_most_once_a_second  # type: ignore[method-assign]
    runpy.run_module("product_service", run_name="__main__")
