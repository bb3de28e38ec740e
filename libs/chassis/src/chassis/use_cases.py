"""Use cases: service methods that run in one worker thread and, for a write, in one transaction.

    class Products(Service[Repositories]):
        @writes
        def create(self, repos: Repositories, draft: ProductCreate, owner: Caller) -> Product: ...

    product = await products.create(draft, owner)

A decorated method is plain synchronous code. It gets the repositories of its transaction as `repos`; callers omit that
argument and await the result. The transaction is committed before the method returns, and rolled back if the method
raises. A write runs a second time, on a fresh connection, if the first connection is lost before the commit: it must
not change anything outside the database.

A use case never calls another one. Those that share steps call undecorated helpers, which take `repos` as well.
docs/decisions/0022 says why.
"""

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)
P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", bound="Service[Any]")


class Transactions(Protocol[R_co]):
    """Runs work on the repositories of one transaction; implemented by `chassis.database.transactions.Database`."""

    async def read(self, work: Callable[Concatenate[R_co, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` without a transaction, on connections that can't write."""

    async def write(self, work: Callable[Concatenate[R_co, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `work` in one transaction, and commit it."""


class Service(Generic[R]):
    """The base of a service; `R` is the class of its repositories."""

    def __init__(self, transactions: Transactions[R]) -> None:
        self._transactions = transactions


def reads(method: Callable[Concatenate[S, R, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Make a service method a use case that reads."""

    @wraps(method)
    async def use_case(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transactions.read(partial(method, self), *args, **kwargs)

    return use_case


def writes(method: Callable[Concatenate[S, R, P], T]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Make a service method a use case that writes, in a transaction of its own."""

    @wraps(method)
    async def use_case(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transactions.write(partial(method, self), *args, **kwargs)

    return use_case
