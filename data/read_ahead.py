"""Preparing items in a background thread, so that whoever computes on them does not wait."""

import threading
from collections.abc import Callable, Iterator
from queue import Full, Queue
from typing import Generic, TypeVar

T = TypeVar("T")

STOP_SECONDS = 0.1  # how long the thread may take to see that nobody wants more


class ReadAhead(Generic[T]):
    """Iterates over what `items()` yields, up to `depth` of them prepared before they are asked for.

    An exception of `items` is raised where its item would have come. `close` ends the thread; as a context manager
    that is done at the end of the block.
    """

    def __init__(self, items: Callable[[], Iterator[T]], depth: int = 2) -> None:
        self._items = items
        self._ready: Queue[tuple[str, T | BaseException | None]] = Queue(depth)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._prepare, name="read-ahead", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        while True:
            kind, value = self._ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def __enter__(self) -> "ReadAhead[T]":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self) -> None:
        try:
            for item in self._items():
                if not self._offer("item", item):
                    return
            self._offer("end", None)
        except BaseException as error:  # the reader's to handle, whatever it is
            self._offer("error", error)

    def _offer(self, kind: str, value: T | BaseException | None) -> bool:
        """Wait for room; False once closed."""
        while not self._closed.is_set():
            try:
                self._ready.put((kind, value), timeout=STOP_SECONDS)
                return True
            except Full:
                continue
        return False
