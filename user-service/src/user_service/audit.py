"""The audit log: one structured line for whatever changes who may do what. No secret is ever in it.

It is written whatever LOG_LEVEL says.
"""

from typing import Any

from chassis import logs


def log(event: str, *, user_id: int | None, **fields: Any) -> None:
    """
    :param event: what happened, in a few words that stay the same
    :param user_id: the account that it happened to; None where there is none
    """
    # The request's own line has a `user_id` too: who asked.
    logs.get(f"{logs.AUDIT}.user_service").info(event, audit=True, account_id=user_id, **fields)
