"""Uses both services through the clients that openapi-python-client generates.

The arguments are the URLs of the user service and of the product service.
"""

import io
import secrets
import sys

from twinlatch_products.api.products import change_product, create_product, import_products, list_products
from twinlatch_products.client import AuthenticatedClient
from twinlatch_products.client import Client as ProductClient
from twinlatch_products.models import ImportReport, Problem, ProductCreate, ProductPatch, ProductRead
from twinlatch_products.types import File
from twinlatch_users.api.accounts import register
from twinlatch_users.api.sessions import log_in
from twinlatch_users.client import Client
from twinlatch_users.models import Credentials, Registration, TokenResponse, UserRead

CSV = b"name,price,quantity,sku\r\nImported lamp,12.50,3,%s\r\n"


def main(users_url: str, products_url: str) -> None:
    users = Client(base_url=users_url)
    username, password = f"generated-{secrets.token_hex(4)}", "correct horse battery staple"
    user = register.sync(client=users, body=Registration(username=username, password=password))
    assert isinstance(user, UserRead), user
    tokens = log_in.sync(client=users, body=Credentials(username=username, password=password))
    assert isinstance(tokens, TokenResponse), tokens

    products = AuthenticatedClient(base_url=products_url, token=tokens.access_token)
    # Without a currency.
    created = create_product.sync(client=products, body=ProductCreate(name="Lamp", price="12.50", quantity=3))
    assert isinstance(created, ProductRead), created
    assert (created.owner_id, created.currency) == (user.id, "USD")

    changed = change_product.sync(
        created.id, client=products, body=ProductPatch(quantity=4), if_match=f'"{created.version}"'
    )
    assert isinstance(changed, ProductRead), changed
    assert (changed.quantity, changed.version) == (4, 2)
    stale = change_product.sync(created.id, client=products, body=ProductPatch(quantity=5), if_match='"1"')
    assert isinstance(stale, Problem), stale
    assert stale.code == "precondition-failed"

    sku = f"LAMP-{secrets.token_hex(4)}"
    report = import_products.sync(client=products, body=File(payload=io.BytesIO(CSV % sku.encode())))
    assert isinstance(report, ImportReport), report
    assert (report.created, report.errors) == (1, [])

    listed = list_products.sync(client=ProductClient(base_url=products_url), owner_id=[user.id], sort="-id")
    assert isinstance(listed, list), listed
    assert [product.sku for product in listed] == [sku, None]
    print("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
