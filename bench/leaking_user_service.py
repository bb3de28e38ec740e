"""The user service with a leak put into it, so that login_timing.py has something to find: `--break` starts this."""

import runpy

from user_service.security.passwords import Passwords, Verification

_verify = Passwords.verify


async def verify_at_once_where_there_is_no_hash(self: Passwords, password: str, stored: str | None) -> Verification:
    return Verification(matches=False, is_outdated=False) if stored is None else await _verify(self, password, stored)


if __name__ == "__main__":
    Passwords.verify = verify_at_once_where_there_is_no_hash  # type: ignore[method-assign]
    runpy.run_module("user_service", run_name="__main__")
