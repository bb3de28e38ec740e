import httpx
from user_support import PASSWORD


async def test_a_new_account_is_answered_with_its_address(client: httpx.AsyncClient) -> None:
    answer = await client.post("/register", json={"username": "ada", "password": PASSWORD})
    assert answer.status_code == 201
    account = answer.json()
    assert answer.headers["location"] == f"/users/{account['id']}"
    assert account["username"] == "ada"
