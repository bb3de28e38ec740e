"""Base class of the models."""

from sqlalchemy import MetaData
from sqlalchemy.orm import DeclarativeBase

from chassis.database.models import COLUMN_TYPES, NAMING_CONVENTION, backups_table


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)
    type_annotation_map = COLUMN_TYPES


backups_table(Base.metadata)
