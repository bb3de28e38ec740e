import json
from pathlib import Path

from user_service.main import documented_app


def test_the_committed_document_is_current() -> None:
    """After a change, `python3 dev.py openapi` writes it anew."""
    committed = (Path(__file__).parents[1] / "openapi.json").read_text(encoding="utf-8")
    assert json.loads(committed) == documented_app().openapi()
