"""The roles of accounts."""

from typing import Protocol


class Account(Protocol):
    @property
    def is_admin(self) -> bool: ...


def roles_of(account: Account) -> list[str]:
    """Every account is a user."""
    return ["user", "admin"] if account.is_admin else ["user"]
