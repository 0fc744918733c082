"""Preparing items in a background thread, so that whoever computes on them does not wait."""

import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Iterates over what `items()` yields, up to `depth` of them prepared before they are asked for.

    An exception of `items` is raised where its item would have come. `close` ends the thread; as a context manager
    that is done at the end of the block.
    """

    def __init__(self, items: Callable[[], Iterator[T]], depth: int = 2) -> None:
        self._items = items
        self._room = threading.Semaphore(depth)
        self._ready: SimpleQueue[tuple[str, T | BaseException | None]] = SimpleQueue()
        self._closed = False
        self._thread = threading.Thread(target=self._prepare, name="read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            kind, value = self._ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            self._room.release()
            yield value

    def close(self) -> None:
        self._closed = True
        self._room.release()
        self._thread.join()

    def __enter__(self) -> "ReadAhead[T]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        try:
            items = self._items()
            while self._is_wanted():
                self._ready.put(("item", next(items)))
        except StopIteration:
            self._ready.put(("end", None))
        except BaseException as error:  # the reader's to handle, whatever it is
            self._ready.put(("error", error))

    def _is_wanted(self) -> bool:
        """Wait for room for one more; False once closed."""
        self._room.acquire()
        return not self._closed
