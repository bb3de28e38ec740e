"""What the operator decides about products."""

import sys
from dataclasses import dataclass

from chassis.errors import FieldError, Invalid
from product_service.domain.fields import MAX_DESCRIPTION_LENGTH
from product_service.domain.ownership import WriteAccess


@dataclass(frozen=True)
class Rules:
    write_access: WriteAccess
    max_description_length: int = MAX_DESCRIPTION_LENGTH
    max_products: int = sys.maxsize
    """Of an account that is not an admin's."""

    def check_description(self, description: str | None) -> None:
        """Raises Invalid if the description is too long."""
        length = len(description or "")
        if length > self.max_description_length:
            detail = f"Must have at most {self.max_description_length} characters, not {length}"
            raise Invalid([FieldError("/description", detail)])
