"""The history of products: the actions that it records."""

from typing import Literal

FIRST_VERSION = 1
"""The version of a new product."""
MAX_REASON_LENGTH = 200

Action = Literal["created", "changed", "stock", "deleted"]
