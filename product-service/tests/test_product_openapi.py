"""The OpenAPI document of the product service."""

import json
from pathlib import Path

from product_service.main import documented_app


def test_committed_document_is_current() -> None:
    """Regenerate it with `python3 dev.py openapi`."""
    committed = (Path(__file__).parents[1] / "openapi.json").read_text(encoding="utf-8")
    assert json.loads(committed) == documented_app().openapi()
