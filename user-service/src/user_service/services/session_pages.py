"""Pages of an account's sessions, for its user and for admins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from chassis.ids import LARGEST_ID

if TYPE_CHECKING:
    from user_service.models import Session
    from user_service.repositories import Repositories


@dataclass(frozen=True)
class SessionPage:
    """A page of a list of sessions, and the position of the next page, or None if this is the last one."""

    sessions: Sequence[Session]
    following: int | None


def page_of_sessions(repos: Repositories, user_id: int, current_id: int, before: int | None, limit: int) -> SessionPage:
    """A page of an account's active sessions: the caller's own session, and then the others, newest first.

    Callers look for their session, and one of 1,000 would be hard to find.

    :param current_id: the caller's session, which may be of another account
    :param before: the position of the page; None for the first one
    """
    now = datetime.now(UTC)
    current = repos.sessions.find_active(current_id, user_id, now) if before is None else None
    wanted = limit if current is None else limit - 1
    found = repos.sessions.list_active(user_id, now, wanted + 1, before=before, except_id=current_id)
    others = found[:wanted]
    following = None
    if len(found) > wanted:
        following = others[-1].id if others else LARGEST_ID
    return SessionPage(others if current is None else [current, *others], following)
