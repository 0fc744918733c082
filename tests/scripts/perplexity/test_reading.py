"""Texts in chunks: the NLL of one forward, rows of unequal lengths, as many forwards as other ranks do, flat memory."""

from dataclasses import replace

import pytest
import torch

from models.assumptions import find_cache
from models.lambda_attention import LambdaConfig
from models.model_base import convert_model, extend_vanilla_positions
from models.scoring.nll_scorer import NllScorer
from scripts.harness.model import RunnableModel
from scripts.harness.prefill import Prefill
from scripts.perplexity.reading import ChunkReader
from tests.live_bytes import LiveBytes
from tests.scripts.harness.test_model import RUNTIME
from tests.tiny_models import tiny_input_ids, tiny_model
from utils.errors import UserError

LOCAL = 16
METHODS = {
    "vanilla": None,
    "lambda": LambdaConfig(LOCAL, 4, LOCAL),
    "limit inside": LambdaConfig(LOCAL, 4, 9),
    "middle": LambdaConfig(LOCAL, 4, LOCAL, triangle_offset=0.5),
}
LENGTHS = (70, 2, 33, 57, 24)  # rows that end within a chunk, at the end of one, and in the first one
CHUNKS = (1, 7, LOCAL, 23, 70)  # 23 leaves one token over, 7 and 70 none; shorter than the window and longer


class Shown:
    """A progress that keeps what it is told."""

    def __init__(self):
        self.shares, self.nlls = [], []

    def within_step(self, share, nll=None):
        self.shares.append(share)
        self.nlls += [] if nll is None else [nll]


def make_model(model_type="llama", method="lambda", **overrides):
    model, config = tiny_model(model_type, **overrides), METHODS[method]
    return extend_vanilla_positions(model) if config is None else convert_model(model, config)


def reader(model, chunk, runtime=RUNTIME):
    return ChunkReader(RunnableModel(model, None, {}, None, device=runtime.device), Prefill(chunk), runtime)


def texts(*lengths):
    return [tiny_input_ids(1, length, seed=length)[0].tolist() for length in lengths]


def whole(model, ids):
    with torch.no_grad():
        return NllScorer(model)(torch.tensor([ids]))[0].numpy()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model_type", ["llama", "gptj", "mpt", "gpt_neox"])
def test_rows_of_unequal_lengths_get_the_nll_that_each_has_alone_in_one_forward(model_type, method):
    model, rows = make_model(model_type, method), texts(*LENGTHS)
    expected = [whole(model, ids) for ids in rows]
    for chunk in CHUNKS:
        found = reader(model, chunk).read(rows, Shown())
        for nll, alone in zip(found, expected, strict=True):
            assert nll.shape == alone.shape and nll.dtype == alone.dtype
            assert abs(nll - alone).max() < 1e-5, chunk


def test_a_text_within_the_chunk_is_read_in_one_forward_and_without_a_cache():
    model, given = make_model(), []
    model.base_model.register_forward_pre_hook(lambda _, args, inputs: given.append(inputs), with_kwargs=True)
    found = reader(model, 40).read(texts(40), Shown())
    assert len(given) == 1 and given[0]["use_cache"] is False and find_cache(given[0]) is None
    assert (found[0] == whole(model, texts(40)[0])).all()


def test_a_text_leaves_nothing_for_the_next_nor_does_one_that_fails():
    model, rows = make_model(), texts(50, 44)
    expected = [whole(model, ids) for ids in rows]
    reads = reader(model, 16)
    handle = model.lm_head.register_forward_pre_hook(run_out_at_call(2))
    with pytest.raises(UserError, match="memory ran out over 1 document of up to 50 tokens: .*--prefill_chunk"):
        reads.read(rows[:1], Shown())
    handle.remove()
    for ids, alone in zip(rows, expected):
        assert abs(reads.read([ids], Shown())[0] - alone).max() < 1e-5
        assert reads.stream.last_hidden is None and reads.stream.cache.get_seq_length() == 0


def run_out_at_call(number):
    calls = []

    def hook(*_):
        calls.append(1)
        if len(calls) == number:
            raise torch.OutOfMemoryError("out of memory")

    return hook


class Beside:
    """This rank beside one whose texts take so many forwards. ZeRO-3 needs them all to do as many."""

    device, rank, world_size = RUNTIME.device, 0, 2

    def __init__(self, other):
        self.other = other

    def gather(self, own):
        return [own, self.other]

    def broadcast(self, value):
        return value


class Sharded:
    """A DeepSpeed of which only this counts here."""

    sharded = True

    def wrap(self, module):
        return module


@pytest.mark.parametrize("other, expected", [(1, 5), (5, 5), (8, 8)])
def test_a_rank_does_as_many_forwards_as_the_one_with_the_longest_text(other, expected):
    model, calls = make_model(), []
    for name in ("base_model", "lm_head"):
        getattr(model, name).register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    runnable = RunnableModel(model, None, {}, None, deepspeed=Sharded())
    found = ChunkReader(runnable, Prefill(10), Beside(other)).read(texts(48), Shown())
    assert calls == ["base_model", "lm_head"] * expected
    assert abs(found[0] - whole(model, texts(48)[0])).max() < 1e-5


def test_ranks_with_whole_weights_do_not_wait_for_each_other():
    runnable = RunnableModel(make_model(), None, {}, None, device=RUNTIME.device)
    silent = replace(RUNTIME, world_size=2)  # without messages between ranks
    assert not ChunkReader(runnable, Prefill(10), silent).synced


def test_progress_moves_with_every_layer_of_every_chunk_and_shows_the_nll_so_far():
    model, shown = make_model(), Shown()
    rows = texts(40, 25)
    found = reader(model, 16).read(rows, shown)
    assert shown.shares == sorted(shown.shares) and shown.shares[-1] == 1.0
    assert {0.2, 0.4, 0.6, 0.8, 0.9, 1.0} <= {round(share, 9) for share in shown.shares}  # 2 layers, chunks of 16
    means = [sum(nll[: end - 1].sum() for nll in found) / sum(len(nll[: end - 1]) for nll in found) for end in (16, 32)]
    assert shown.nlls[:2] == pytest.approx(means, rel=1e-5)
    assert shown.nlls[2] == pytest.approx(sum(nll.sum() for nll in found) / (39 + 24), rel=1e-5)


def peak(model, chunk, length):
    """Bytes alive at once while a text is read, without its ids (int64) and their NLL (float32)."""
    rows, reads = [tiny_input_ids(1, length)[0].tolist()], reader(model, chunk)
    reads.read(texts(600), Shown())  # tables of positions and the like
    with LiveBytes() as count:
        reads.read(rows, Shown())
    return count.peak - length * (8 + 4)


@pytest.mark.parametrize("model_type", ["llama", "mpt"])
def test_memory_is_flat_in_the_length_of_the_text(model_type):
    model = make_model(model_type)
    short, long = (peak(model, 256, length) for length in (8192, 12_288))
    assert long <= 1.01 * short
    assert peak(model, None, 8192) > 5 * short
