import json
from datetime import UTC, datetime
from pathlib import Path

from user_service.main import documented_app
from user_service.schemas import SessionRead, UserRead


def test_the_committed_openapi_document_is_current() -> None:
    """Run `python3 dev.py openapi` to regenerate it."""
    committed = (Path(__file__).parents[1] / "openapi.json").read_text(encoding="utf-8")
    assert json.loads(committed) == documented_app().openapi()


def test_times_have_microseconds_even_if_these_are_zero() -> None:
    new_year = datetime(2026, 1, 1, tzinfo=UTC)
    account = UserRead(id=1, username="ada", roles=[], is_active=True, created_at=new_year, updated_at=new_year)
    times = {"created_at": new_year, "last_used_at": new_year, "expires_at": new_year}
    session = SessionRead(id=1, user_agent=None, ip=None, current=True, **times)
    for text in (account.model_dump_json(), session.model_dump_json()):
        assert {value for name, value in json.loads(text).items() if name.endswith("_at")} == {
            "2026-01-01T00:00:00.000000Z"
        }
