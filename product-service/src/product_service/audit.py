"""Audit log: one structured line for each import and export, written at every LOG_LEVEL."""

from typing import Any

from chassis import logs


def log(event: str, *, user_id: int, **fields: Any) -> None:
    """Write one line to the audit log.

    :param event: a short, stable name for what happened
    :param user_id: the account that did it
    """
    logs.get(f"{logs.AUDIT}.product_service").info(
        event, account_id=user_id, **fields, **{logs.JSON_ONLY: {"audit": True}}
    )
