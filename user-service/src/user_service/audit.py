"""Audit log: one structured line for each event that changes or tests access rights.

Lines never contain secrets and are written at every LOG_LEVEL.
"""

from typing import Any

from chassis import logs


def log(event: str, *, user_id: int | None, **fields: Any) -> None:
    """Write one line to the audit log.

    :param event: a short, stable name for what happened
    :param user_id: the account affected; None if there is none
    """
    # Logged as `account_id`, because `user_id` in the access log is the caller.
    logs.get(f"{logs.AUDIT}.user_service").info(
        event, account_id=user_id, **fields, **{logs.JSON_ONLY: {"audit": True}}
    )
