"""The history of products: what an entry records."""

from typing import Literal

LONGEST_REASON = 200

Action = Literal["created", "changed", "stock", "deleted"]
