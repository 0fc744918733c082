"""The file of every token's NLL: appended, readable at any time, cut back to what a checkpoint counts."""

import numpy as np
import pytest

from scripts.streaming.token_nll import TokenNllFile
from utils.errors import UserError


def some_nll(tokens, seed=0):
    return np.random.default_rng(seed).gamma(2.0, 2.0, tokens).astype(np.float32)


def held(path):
    return np.fromfile(path, dtype=np.float32)


def test_what_was_appended_can_be_read_while_the_run_goes_on(tmp_path):
    file, nll = TokenNllFile(tmp_path, 3, 0), some_nll(30)
    assert file.path.name == "token_nll_0003.f32" and file.path.stat().st_size == 0
    for end in (10, 11, 30):
        file.append(nll[file.tokens : end])
        np.testing.assert_array_equal(held(file.path), nll[:end])
        assert file.tokens == end


def test_nothing_is_rewritten(tmp_path):
    file = TokenNllFile(tmp_path, 0, 0)
    file.append(some_nll(10))
    before = file.path.stat()
    with open(file.path, "rb") as reader:
        file.append(some_nll(5))
        file.sync()
        assert len(reader.read()) == 60  # the file that was open has grown: it is the same one
    assert file.path.stat().st_ino == before.st_ino


@pytest.mark.parametrize("extra", [0, 1, 4, 7])
def test_what_no_checkpoint_counts_is_cut_off(extra, tmp_path):
    nll = some_nll(10)
    path = tmp_path / "token_nll_0000.f32"
    path.write_bytes(nll.tobytes() + b"x" * extra)
    file = TokenNllFile(tmp_path, 0, 8)
    np.testing.assert_array_equal(held(path), nll[:8])
    file.append(nll[8:])
    np.testing.assert_array_equal(held(path), nll)


def test_other_precisions_are_stored_as_float32(tmp_path):
    file = TokenNllFile(tmp_path, 0, 0)
    file.append(np.array([1.5, 2.25], dtype=np.float64))
    assert held(file.path).tolist() == [1.5, 2.25]


@pytest.mark.parametrize("left", [0, 39])
def test_a_file_that_is_too_short_is_named(left, tmp_path):
    (tmp_path / "token_nll_0000.f32").write_bytes(some_nll(10).tobytes()[:left])
    with pytest.raises(UserError, match=rf"token_nll_0000.f32 holds {left // 4} of the 10 tokens .* --overwrite"):
        TokenNllFile(tmp_path, 0, 10)
    assert (tmp_path / "token_nll_0000.f32").stat().st_size == left


def test_a_folder_that_is_gone_is_named(tmp_path):
    with pytest.raises(UserError, match="--log_dir .*nowhere was removed while this ran"):
        TokenNllFile(tmp_path / "nowhere", 0, 0)
