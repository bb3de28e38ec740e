"""Permissions on products."""

from typing import Literal

from auth_client.caller import Caller

WriteAccess = Literal["owner", "authenticated"]
"""Who can change a product: its owner, or any authenticated caller. Admins always can."""


def is_owner_or_admin(caller: Caller, owner_id: int) -> bool:
    return caller.user_id == owner_id or caller.is_admin


def may_change(caller: Caller, owner_id: int, access: WriteAccess) -> bool:
    return access == "authenticated" or is_owner_or_admin(caller, owner_id)
