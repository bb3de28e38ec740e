"""What the product service is made of, apart from HTTP: the command line does not need that."""

from pathlib import Path
from typing import TYPE_CHECKING

from chassis.database.migrations import Migrations
from chassis.database.transactions import Database
from chassis.rate_limits import IN_MEMORY, RateLimits
from product_service.domain.rules import Rules
from product_service.models import Base
from product_service.models.products import UNMAPPED_OBJECTS
from product_service.repositories import Repositories
from product_service.services.idempotency import IdempotencyRecords
from product_service.services.import_export import Imports
from product_service.services.products import Products
from product_service.services.upserts import Upserts
from product_service.services.write_limit import WriteLimit
from product_service.settings import Settings

if TYPE_CHECKING:
    from chassis.database.replica import ReplicaFirst


class Services:
    """The use cases and the database they run on, for the API and for the command line."""

    def __init__(self, settings: Settings) -> None:
        self.database = Database.from_settings(settings, Repositories)
        rules = Rules(settings.product_write_access, settings.max_description_length, settings.max_products_per_account)
        self.products = Products(self.database, rules)
        self._replica = _replica(settings, self.database)
        self.public_products = Products(self._replica, rules) if self._replica else self.products
        """For reads that may be a moment old."""
        self.imports = Imports(Upserts(self.database, rules))
        self.write_limit = WriteLimit(RateLimits(IN_MEMORY), settings.rate_limit_writes)
        self.idempotency_records = IdempotencyRecords(self.database)

    def close(self) -> None:
        self.imports.close()
        if self._replica:
            self._replica.close()
        self.database.close()


def _replica(settings: Settings, primary: Database[Repositories]) -> "ReplicaFirst[Repositories] | None":
    if not settings.database_read_url:
        return None
    from chassis.database.replica import ReplicaFirst

    return ReplicaFirst(settings.database_read_url, primary, Repositories, settings)


def migrations(settings: Settings) -> Migrations:
    folder = Path(__file__).parent / "migrations"
    return Migrations(folder, Base.metadata, settings.database_url, UNMAPPED_OBJECTS)
