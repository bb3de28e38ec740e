"""The history of products: the actions that it records."""

from typing import Literal

MAX_REASON_LENGTH = 200

Action = Literal["created", "changed", "stock", "deleted"]
