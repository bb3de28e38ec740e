"""The OpenAPI document of each service."""

from typing import Any

import pytest

from tests.openapi.documents import DOCUMENTS


@pytest.fixture(params=["user-service", "product-service"])
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    return DOCUMENTS[request.param]
