"""The caller of a protected operation."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Caller:
    """Who is asking, as the user service said at this moment."""

    user_id: int
    username: str
    roles: tuple[str, ...]

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles
