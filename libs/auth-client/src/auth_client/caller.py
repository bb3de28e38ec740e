"""The caller of a protected operation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """The account that an access token belongs to, as the user service described it for this request."""

    user_id: int
    username: str
    roles: tuple[str, ...]

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles
