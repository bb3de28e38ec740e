"""The services as tutorials write them: FastAPI, a session of SQLAlchemy per request, a new client per validation.

They have no errors in their own format, no limits, no history, no search, and uvicorn's own access log. Start them with
uvicorn; see `bench.services`.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.security import OAuth2PasswordBearer
from jose import JWTError, jwt
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import ForeignKey, Numeric, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"], pool_pre_ping=True)
SessionLocal = sessionmaker(engine, autoflush=False)


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    username: Mapped[str]
    is_admin: Mapped[bool]
    is_active: Mapped[bool]


class UserSession(Base):
    __tablename__ = "sessions"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    expires_at: Mapped[datetime]


class Product(Base):
    __tablename__ = "products"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str | None]
    price: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    currency: Mapped[str]
    quantity: Mapped[int]
    category: Mapped[str | None]
    sku: Mapped[str | None]
    owner_id: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    version: Mapped[int]


class Token(BaseModel):
    token: str


class TokenState(BaseModel):
    valid: bool
    user_id: int | None = None
    username: str | None = None
    roles: list[str] = []
    session_id: int | None = None
    expires_at: datetime | None = None
    message: str = ""


class ProductCreate(BaseModel):
    name: str = Field(min_length=1, max_length=200)
    description: str | None = None
    price: Decimal = Field(ge=0)
    currency: str = "EUR"
    quantity: int = Field(0, ge=0)
    category: str | None = None
    sku: str | None = None


class ProductRead(ProductCreate):
    model_config = ConfigDict(from_attributes=True)
    id: int
    owner_id: int
    created_at: datetime
    updated_at: datetime
    version: int


def get_db() -> Iterator[Session]:
    db = SessionLocal()
    try:
        yield db
    finally:
        db.close()


Db = Annotated[Session, Depends(get_db)]
users = FastAPI()
products = FastAPI()


@users.post("/validate-token")
def validate_token(body: Token, db: Db) -> TokenState:
    try:
        claims = jwt.decode(body.token, os.environ["SECRET_KEY"], algorithms=["HS256"], audience="services")
    except JWTError:
        return TokenState(valid=False)
    session = db.get(UserSession, claims["sid"])
    user = db.get(User, int(claims["sub"]))
    now = datetime.now(UTC).replace(tzinfo=None)
    if session is None or user is None or not user.is_active or session.expires_at < now:
        return TokenState(valid=False)
    return TokenState(
        valid=True,
        user_id=user.id,
        username=user.username,
        roles=["user", "admin"] if user.is_admin else ["user"],
        session_id=session.id,
        expires_at=datetime.fromtimestamp(claims["exp"], UTC),
        message="The token is valid.",
    )


oauth2_scheme = OAuth2PasswordBearer(tokenUrl="login")


async def get_current_user(token: Annotated[str, Depends(oauth2_scheme)]) -> TokenState:
    async with httpx.AsyncClient() as client:
        response = await client.post(f"{os.environ['USER_SERVICE_URL']}/validate-token", json={"token": token})
    state = TokenState(**response.json())
    if not state.valid:
        raise HTTPException(401, "Invalid token", {"WWW-Authenticate": "Bearer"})
    return state


@products.get("/products")
def list_products(db: Db, limit: Annotated[int, Query(ge=1, le=100)] = 20, skip: int = 0) -> list[ProductRead]:
    found = db.query(Product).order_by(Product.id).offset(skip).limit(limit).all()
    return [ProductRead.model_validate(product) for product in found]


@products.get("/products/{product_id}")
def show_product(product_id: int, db: Db) -> ProductRead:
    product = db.get(Product, product_id)
    if product is None:
        raise HTTPException(404, "Product not found")
    return ProductRead.model_validate(product)


@products.post("/products", status_code=201)
def create_product(draft: ProductCreate, user: Annotated[TokenState, Depends(get_current_user)], db: Db) -> ProductRead:
    now = datetime.now(UTC).replace(tzinfo=None)
    product = Product(**draft.model_dump(), owner_id=user.user_id, created_at=now, updated_at=now, version=1)
    db.add(product)
    db.commit()
    db.refresh(product)
    return ProductRead.model_validate(product)
