import httpx
from product_support import ADA, DRAFT, bearer


async def test_a_new_product_is_answered_with_its_address(client: httpx.AsyncClient) -> None:
    answer = await client.post("/products", json=DRAFT, headers=bearer(ADA))
    assert answer.status_code == 201
    product = answer.json()
    assert answer.headers["location"] == f"/products/{product['id']}"
    assert product["owner_id"] == 1
    assert (await client.get(answer.headers["location"])).json() == product
