"""One definition of an operation, two ways to call it: it blocks, or it is awaited.

class FitOperations(Resource):
    @operation
    def get(self, fit_id: str) -> Call[Fit]: ...

class Fits(FitOperations, Blocking): ...        fits.get("f-1") is a Fit
class AsyncFits(FitOperations, Awaited): ...    await fits.get("f-1") is a Fit
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from m2dao_client.drivers import AsyncDriver, SyncDriver
from m2dao_client.session import Session
from m2dao_client.steps import Call, Items

P = ParamSpec("P")
Result = TypeVar("Result")
Owner = TypeVar("Owner")


class Resource:
    """The operations of one kind of thing, over the session of a client."""

    def __init__(self, session: Session, driver: SyncDriver | AsyncDriver):
        self._session, self._driver = session, driver


class Blocking(Resource):
    """Its operations return when they are done."""


class Awaited(Resource):
    """Its operations are awaited."""


class operation(Generic[Owner, P, Result]):
    """An operation with one result."""

    def __init__(self, function: Callable[Concatenate[Owner, P], Call[Result]]):
        self._function = function
        functools.update_wrapper(self, function)  # type: ignore[arg-type]

    @overload
    def __get__(self, resource: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, resource: Blocking, owner: Any) -> Callable[P, Result]: ...
    @overload
    def __get__(self, resource: Awaited, owner: Any) -> Callable[P, Coroutine[Any, Any, Result]]: ...
    def __get__(self, resource: Any, owner: Any) -> Any:
        if resource is None:
            return self

        @functools.wraps(self._function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return resource._driver.run(self._function(resource, *args, **kwargs))

        return call


class iteration(Generic[Owner, P, Result]):
    """An operation that yields one item after the other."""

    def __init__(self, function: Callable[Concatenate[Owner, P], Items[Result]]):
        self._function = function
        functools.update_wrapper(self, function)  # type: ignore[arg-type]

    @overload
    def __get__(self, resource: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, resource: Blocking, owner: Any) -> Callable[P, Iterator[Result]]: ...
    @overload
    def __get__(self, resource: Awaited, owner: Any) -> Callable[P, AsyncIterator[Result]]: ...
    def __get__(self, resource: Any, owner: Any) -> Any:
        if resource is None:
            return self

        @functools.wraps(self._function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Any:
            return resource._driver.iterate(self._function(resource, *args, **kwargs))

        return call
