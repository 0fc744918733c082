"""The bar of a stream: tokens of all streams together, what an earlier session read left out of the speed."""

from utils.console import Console
from utils.stream_progress import StreamProgress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def make(total=1000, done=0):
    clock = Clock()
    return StreamProgress(Console(), total, done, memory=lambda: 2**30, clock=clock), clock


def test_counts_tokens_within_a_chunk():
    progress, clock = make()
    assert "0 of 1,000 tokens | nll - | 0 tokens/s | 1.00 GiB" in progress.describe()
    assert "left" not in progress.describe()
    progress.begin_chunk(400)
    clock.now += 10
    progress.within_chunk(0.5)
    assert progress.describe().startswith("[#####...................]  20% | 200 of 1,000 tokens | nll - | 20 tokens/s")
    assert progress.describe().endswith("0:40 left")
    progress.end_chunk(3.25)
    assert "40% | 400 of 1,000 tokens | nll of the last million 3.2500 | 40 tokens/s" in progress.describe()


def test_speed_and_time_left_leave_out_what_an_earlier_session_read():
    progress, clock = make(done=600)
    progress.begin_chunk(100)
    clock.now += 10
    progress.end_chunk(1.0)
    assert "70% | 700 of 1,000 tokens" in progress.describe()
    assert progress.describe().endswith("| 10 tokens/s | 1.00 GiB | 0:30 left")


def test_the_last_chunk_is_always_shown(capsys):
    progress, _ = make(total=100)
    progress.begin_chunk(100)
    capsys.readouterr()
    progress.end_chunk(2.5)
    assert "100% | 100 of 100 tokens | nll of the last million 2.5000" in capsys.readouterr().err


def test_plain_lines_are_rare_without_a_terminal(capsys):
    progress, clock = make(total=10**6)
    for _ in range(100):
        progress.begin_chunk(100)
        clock.now += 0.1
        progress.end_chunk(1.0)
    assert 2 <= len(capsys.readouterr().err.splitlines()) <= 4
