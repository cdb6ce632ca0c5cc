"""Loops that advance a stage: `for` and `async for` over what a task tracks."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from operator import length_hint
from typing import Any, Generic, TypeVar

from plet_celery.guard import PASS_THROUGH, contain
from plet_celery.redaction import is_asynchronous
from plet_celery.stages import Stage

T = TypeVar("T")


def iterate(iterable: Iterable[T], stage: Stage) -> Iterator[T]:
    """Yield the items of `iterable` inside `stage`, advancing by one after each."""
    with stage:
        left = batch = 1
        try:
            for item in iterable:
                yield item
                left -= 1
                if not left:
                    try:
                        stage._done += batch
                        stage._look()
                    except PASS_THROUGH:
                        raise
                    except Exception as error:
                        contain(error, "stage.track")
                    left = batch = stage._left if stage._left > 0 else 1
        finally:
            if batch != left:
                stage.advance(batch - left)


class AsyncTrack(Generic[T]):
    """Yields the items of an async iterable inside a stage, advancing by one after each.

    No async generator: one that a loop leaves is closed by the event loop some time later, in a task of
    its own. This one notices at once.
    """

    def __init__(self, iterable: AsyncIterable[T], stage: Stage) -> None:
        self._iterable = iterable
        self._stage = stage
        self._items: AsyncIterator[T] | None = None
        self._is_out = self._is_over = False

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        """Return the next item; the one before is done."""
        if self._is_over:
            raise StopAsyncIteration
        if self._is_out:
            self._is_out = False
            self._stage.advance()
        try:
            if self._items is None:
                self._stage.__enter__()
                self._items = aiter(self._iterable)
            item: T = await self._items.__anext__()
        except StopAsyncIteration:
            self._leave(None)
            raise
        except BaseException as error:
            self._leave(error)
            raise
        self._is_out = True
        return item

    async def aclose(self) -> None:
        """End before the end, as `contextlib.aclosing` does."""
        self._leave(GeneratorExit())
        close = getattr(self._items, "aclose", None)
        if close is not None:
            await close()

    def __del__(self) -> None:
        if self._items is not None:
            self._leave(GeneratorExit())

    def _leave(self, error: BaseException | None) -> None:
        if not self._is_over:
            self._is_over = True
            self._stage.__exit__(type(error) if error is not None else None, error, None)


class EitherTrack(AsyncTrack[T]):
    """Of what iterates both ways, as a Django queryset does: `for` and `async for` both work."""

    def __init__(self, iterable: Any, stage: Stage) -> None:
        super().__init__(iterable, stage)
        self._plain: Iterator[T] = iterate(iterable, stage)

    def __iter__(self) -> Iterator[T]:
        return self._plain

    def __next__(self) -> T:
        return next(self._plain)


def follow(iterable: Any, stage: Stage) -> Any:
    """Return what iterates over `iterable` inside `stage`, by `for` or by `async for`, as it does itself."""
    kind = type(iterable)
    if not hasattr(kind, "__aiter__"):
        return iterate(iterable, stage)
    return EitherTrack(iterable, stage) if hasattr(kind, "__iter__") else AsyncTrack(iterable, stage)


def guess_total(iterable: Iterable[Any]) -> int | None:
    """Return how many items an iterable says it has, or None; a broken `__len__` is no answer."""
    try:
        count = length_hint(iterable, -1)
    except PASS_THROUGH:
        raise
    except Exception as error:  # the user's __len__, not ours
        if is_asynchronous(error):
            raise
        return None
    return count if count >= 0 else None
