"""How the history of products is stored and found."""

from collections.abc import Sequence

from chassis.database.repository import BaseRepository
from product_service.models import Change


class ChangeRepository(BaseRepository[Change]):
    model = Change

    def of_product(self, product_id: int, before: int | None, limit: int) -> Sequence[Change]:
        """Up to `limit` changes of a product, the newest first: all of them, or those before the one with this id."""
        after = None if before is None else (before,)
        return self.page(limit, Change.product_id == product_id, descending=True, after=after)
