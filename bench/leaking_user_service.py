"""The user service with a timing leak, which `login_timing.py --break` has to detect."""

import runpy

from user_service.security.passwords import Passwords, Verification

_verify = Passwords.verify


async def verify_at_once_without_a_hash(
    self: Passwords, password: str, stored: str | None, *, stranger: bool = False, client: str | None = None
) -> Verification:
    if stored is None:
        return Verification(matches=False, is_outdated=False)
    return await _verify(self, password, stored, stranger=stranger, client=client)


if __name__ == "__main__":
    Passwords.verify = verify_at_once_without_a_hash  # type: ignore[method-assign]
    runpy.run_module("user_service", run_name="__main__")
