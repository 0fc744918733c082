"""The bar's numbers, and that it moves inside a document."""

import torch

from tests.tiny_models import tiny_input_ids, tiny_model
from utils.console import Console
from utils.progress import Amount, DocumentTokens, Progress, layer_progress


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def a_gibibyte():
    return 2**30


def make(nll="nll", **options):
    clock = Clock()
    return Progress(Console(), DocumentTokens(**{"documents": 4} | options), a_gibibyte, nll, clock), clock


def test_counts_tokens_within_a_step_and_estimates_the_rest():
    progress, clock = make(longest=1000)
    assert "0 of about 4,000 tokens" in progress.describe()
    progress.begin_step(600, documents=1)
    clock.now += 10
    progress.within_step(0.5)
    assert "300 of about 2,400 tokens | document 1 of 4 | nll - | 30 tokens/s | 1.00 GiB" in progress.describe()
    progress.end_step(600, 1, 3.25)
    assert "600 of about 2,400 tokens | document 2 of 4 | nll 3.2500 | 60 tokens/s" in progress.describe()
    assert progress.describe().endswith("0:30 left")


def test_one_document_of_unknown_length_moves():
    progress, _ = make(documents=1)
    progress.begin_step(1000, documents=1)
    progress.within_step(0.25)
    assert progress.describe().startswith("[######..................]  25% | 250 of about 1,000 tokens")


def test_speed_leaves_out_what_an_earlier_session_did():
    progress, clock = make(done_documents=2, done_tokens=1000)
    clock.now += 10
    progress.end_step(100, 1, 1.0)
    assert "1,100 of about 1,467 tokens | document 4 of 4" in progress.describe()
    assert "| 10 tokens/s" in progress.describe()


def test_plain_lines_are_rare_without_a_terminal(capsys):
    progress, clock = make(longest=1000)
    progress.begin_step(1000, documents=1)
    for _ in range(100):
        clock.now += 0.1
        progress.within_step(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 4
    assert "\r" not in "".join(lines)


def test_layers_report_their_share_and_hooks_go_away():
    model, shares = tiny_model("llama"), []
    with layer_progress(model, shares.append), torch.no_grad():
        model(tiny_input_ids(1, 4))
    assert shares == [0.5, 1.0]
    with torch.no_grad():
        model(tiny_input_ids(1, 4))
    assert shares == [0.5, 1.0]


def make_stream(total=1000, done=0):
    clock = Clock()
    return Progress(Console(), Amount(total, done), a_gibibyte, "nll of the last million", clock), clock


def test_counts_tokens_within_a_chunk():
    progress, clock = make_stream()
    assert "0 of 1,000 tokens | nll - | 0 tokens/s | 1.00 GiB" in progress.describe()
    assert "left" not in progress.describe()
    progress.begin_step(400)
    clock.now += 10
    progress.within_step(0.5)
    assert progress.describe().startswith("[#####...................]  20% | 200 of 1,000 tokens | nll - | 20 tokens/s")
    assert progress.describe().endswith("0:40 left")
    progress.end_step(400, nll=3.25)
    assert "40% | 400 of 1,000 tokens | nll of the last million 3.2500 | 40 tokens/s" in progress.describe()


def test_speed_and_time_left_leave_out_what_an_earlier_session_read():
    progress, clock = make_stream(done=600)
    progress.begin_step(100)
    clock.now += 10
    progress.end_step(100, nll=1.0)
    assert "70% | 700 of 1,000 tokens" in progress.describe()
    assert progress.describe().endswith("| 10 tokens/s | 1.00 GiB | 0:30 left")


def test_the_last_chunk_is_always_shown(capsys):
    progress, _ = make_stream(total=100)
    progress.begin_step(100)
    capsys.readouterr()
    progress.end_step(100, nll=2.5)
    assert "100% | 100 of 100 tokens | nll of the last million 2.5000" in capsys.readouterr().err


def test_plain_lines_of_a_stream_are_rare_without_a_terminal(capsys):
    progress, clock = make_stream(total=10**6)
    for _ in range(100):
        progress.begin_step(100)
        clock.now += 0.1
        progress.end_step(100, nll=1.0)
    assert 2 <= len(capsys.readouterr().err.splitlines()) <= 4


def test_without_an_nll_the_line_has_none():
    progress, _ = make(nll=None)
    progress.end_step(100, 1)
    assert "100 of about 400 tokens | document 2 of 4 | 100" in progress.describe()
    assert "nll" not in progress.describe()


def test_examples_are_counted_one_by_one():
    clock = Clock()
    progress = Progress(Console(), Amount(8, 2, "examples", digits=2), a_gibibyte, clock=clock)
    clock.now += 8
    progress.end_step(2)
    line = "[############............]  50% | 4 of 8 examples | 0.25 examples/s | 1.00 GiB | 0:16 left"
    assert progress.describe() == line
