"""Valid requests, and changes that make them invalid."""

import json
from typing import Any

JSON = {"Content-Type": "application/json"}
DRAFT = {"name": "Lamp", "price": "19.99", "quantity": 3}


def with_field(draft: dict[str, Any], name: str, value: str) -> bytes:
    """The draft as JSON, with this field added or replaced; `value` is JSON text."""
    rest = {key: json.dumps(given) for key, given in draft.items() if key != name}
    return ("{" + ", ".join(f'"{key}": {given}' for key, given in {**rest, name: value}.items()) + "}").encode()
