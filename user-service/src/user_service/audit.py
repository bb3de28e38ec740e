"""Audit log: one structured line for each event that changes or tests access rights, or shows data of other accounts.

Lines never contain secrets and are written at every LOG_LEVEL.
"""

import time
from typing import Any

from chassis import logs

REPEAT_AFTER = 60.0
"""Seconds in which a client gets one line for an event that it can cause at will."""

MAX_CLIENTS = 100
"""Lines for such an event in this time, for all clients together."""


def log(event: str, *, user_id: int | None, **fields: Any) -> None:
    """Write one line to the audit log.

    :param event: a short, stable name for what happened
    :param user_id: the account affected; None if there is none
    """
    logs.audit("user_service", event, account_id=user_id, **fields)


class Flood:
    """An event that anyone can cause at will, and must not fill the log with: few lines, which count the others."""

    def __init__(self, event: str, **fields: Any) -> None:
        """
        :param event: as for `log`
        :param fields: further fields of each line
        """
        self._event = event
        self._fields = fields
        self._clients: set[str | None] = set()
        self._forget_at = 0.0
        self._left_out = 0

    def log(self, ip: str | None) -> None:
        """Write a line, unless this client has had one or too many others have; `left_out` counts events without."""
        now = time.monotonic()
        if now >= self._forget_at:
            self._clients.clear()
            self._forget_at = now + REPEAT_AFTER
        if ip in self._clients or len(self._clients) >= MAX_CLIENTS:
            self._left_out += 1
            return
        self._clients.add(ip)
        log(self._event, user_id=None, **self._fields, ip=ip, left_out=self._left_out)
        self._left_out = 0
