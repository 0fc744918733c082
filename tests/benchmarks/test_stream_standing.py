"""Where a stream stands, from files as a trial leaves them."""

import json

import pytest

from benchmarks.stream_standing import standing
from utils.errors import UserError


@pytest.fixture
def log_dir(tmp_path):
    """A stream of 100,000 tokens, three chunks of 10,000 read and two of them checkpointed."""
    (tmp_path / "config.json").write_text(json.dumps({"arguments": {"streaming_length": 100_000}}))
    chunks = [
        {"index": i, "end": 10_000 * (i + 1), "tokens": 10_000, "seconds": 2.0, "memory_bytes": 2**30 * (3 - i)}
        for i in range(3)
    ]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(chunk) + "\n" for chunk in chunks))
    for name in ("checkpoint-000000001", "checkpoint-000000002", "checkpoint-000000003.partial"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_stopped_stream_tells_what_a_restart_goes_on_from(log_dir):
    assert standing(log_dir) == (
        f"{log_dir}: 30,000 of 100,000 tokens (30.0%), 5,000 tokens/s and 3.00 GiB in the newest 3 chunks, a restart "
        "goes on from 20,000"
    )


def test_a_finished_stream_is_finished(log_dir):
    (log_dir / "results.json").write_text("{}")
    assert standing(log_dir).endswith(", finished")


def test_a_stream_without_a_chunk_or_a_checkpoint(log_dir):
    for name in ("checkpoint-000000001", "checkpoint-000000002"):
        (log_dir / name).rmdir()
    assert standing(log_dir).endswith("goes on from 0")
    (log_dir / "samples.jsonl").unlink()
    assert standing(log_dir) == f"{log_dir}: nothing of 100,000 tokens read yet"


def test_a_folder_without_a_stream_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no stream's trial"):
        standing(tmp_path)
