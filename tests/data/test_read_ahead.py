"""Items prepared in the background: their order, their errors, and how many of them."""

import threading
import time

import pytest

from data.read_ahead import ReadAhead


def wait_for_length(items, length):
    deadline = time.monotonic() + 10
    while len(items) < length:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_items_come_in_order_and_end():
    with ReadAhead(lambda: iter(range(100))) as items:
        assert list(items) == list(range(100))


def test_they_are_prepared_in_another_thread_and_no_more_than_the_depth_before_they_are_asked_for():
    prepared = []

    def prepare():
        for item in range(10):
            prepared.append(threading.current_thread())
            yield item

    with ReadAhead(prepare, depth=3) as ahead:
        items = iter(ahead)
        for taken in range(5):
            wait_for_length(prepared, taken + 3)
            time.sleep(0.02)
            assert len(prepared) == taken + 3
            assert next(items) == taken
    assert threading.current_thread() not in prepared


@pytest.mark.parametrize("error", [ValueError("third"), MemoryError()])
def test_an_error_is_raised_where_its_item_would_have_come(error):
    def prepare():
        yield 1
        yield 2
        raise error

    with ReadAhead(prepare) as ahead:
        items = iter(ahead)
        assert [next(items), next(items)] == [1, 2]
        with pytest.raises(type(error)) as raised:
            next(items)
        assert raised.value is error


def test_leaving_the_block_ends_the_thread_in_the_middle():
    before = threading.active_count()

    def prepare():
        while True:
            yield 0

    with ReadAhead(prepare) as ahead:
        assert next(iter(ahead)) == 0
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_an_error_in_the_block_ends_the_thread_too():
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), ReadAhead(lambda: iter(range(1000))):
        raise KeyboardInterrupt
    assert threading.active_count() == before
