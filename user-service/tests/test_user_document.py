import json
from pathlib import Path

from user_service.main import documented_app


def test_the_committed_openapi_document_is_current() -> None:
    """Run `python3 dev.py openapi` to regenerate it."""
    committed = (Path(__file__).parents[1] / "openapi.json").read_text(encoding="utf-8")
    assert json.loads(committed) == documented_app().openapi()
