"""How the history of products is stored and found."""

from collections.abc import Sequence

from chassis.repository import BaseRepository
from product_service.models import Change


class ChangeRepository(BaseRepository[Change]):
    model = Change

    def before(self, product_id: int, change_id: int, limit: int) -> Sequence[Change]:
        """Up to `limit` changes of a product that came before this one, the newest first."""
        statement = self.base().where(Change.product_id == product_id, Change.id < change_id)
        return self._session.scalars(statement.order_by(Change.id.desc()).limit(limit)).all()

    def find_last(self, product_id: int) -> Change | None:
        """The last change of a product, the deletion of one that is gone."""
        statement = self.base().where(Change.product_id == product_id).order_by(Change.id.desc()).limit(1)
        return self._one(statement)
