"""The fixtures of the auth client's tests."""

from collections.abc import AsyncIterator

import pytest

from auth_client.client import AuthClient
from testkit.user_service_stub import UserServiceStub


@pytest.fixture
async def client(user_service: UserServiceStub) -> AsyncIterator[AuthClient]:
    client = AuthClient(user_service.url, timeout=5)
    yield client
    await client.close()
