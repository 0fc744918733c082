"""Every rank of a group gets the NLL that one rank finds, chunk by chunk, and a stream goes on over other ranks."""

import pytest
import torch

from models.attention.config import LambdaConfig
from models.attention.sequence.caches import reading_alone
from models.model_base import convert_model
from models.scoring.nll_scorer import NllScorer
from models.scoring.sequence_scorer import stream_scorer
from models.scoring.stream_scorer import StreamScorer
from tests.rank_pool import rank_pool
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

CONFIG = LambdaConfig(8, 3, 8)
CPU = torch.device("cpu")
IDS = tiny_input_ids(2, 75)
CHUNKS = [(0, 40), (40, 41), (41, 43), (43, 75)]


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with rank_pool(tmp_path_factory.mktemp("ranks"), __name__) as pool:
        yield pool


def scorer_over(group, model_type="llama"):
    sequence = group if group.size() > 1 else None
    return stream_scorer(convert_model(tiny_model(model_type), CONFIG, sequence_group=sequence))


def nll_over_ranks(group, model_type, chunks, state=None, position=0):
    """The NLL of each chunk, and what the last rank would keep."""
    scorer = scorer_over(group, model_type)
    if state is not None:
        scorer.restore(state, position, CPU)
    found = [scorer(IDS[:, start:stop]) for start, stop in chunks]
    is_last = group.rank() == group.size() - 1
    return found, [scorer.state(row).wait() for row in range(2)] if is_last else None


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("model_type", ["llama", "gptj", "gpt_neox", "mpt"])
@torch.no_grad()
def test_a_stream_in_chunks(pool, ranks, model_type):
    alone = StreamScorer(convert_model(tiny_model(model_type), CONFIG))
    expected = [alone(IDS[:, start:stop]) for start, stop in CHUNKS]
    for found, _ in pool.run(ranks, nll_over_ranks, model_type, CHUNKS):
        for mine, one in zip(found, expected):
            torch.testing.assert_close(mine, one, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("ranks", [(1, 4), (4, 1), (2, 3)])
@torch.no_grad()
def test_a_stream_goes_on_over_another_number_of_ranks(pool, ranks):
    first, rest = CHUNKS[:2], CHUNKS[2:]
    alone = StreamScorer(convert_model(tiny_model(), CONFIG))
    expected = [alone(IDS[:, start:stop]) for start, stop in CHUNKS][2:]
    state = pool.run(ranks[0], nll_over_ranks, "llama", first)[-1][1]
    for found, _ in pool.run(ranks[1], nll_over_ranks, "llama", rest, state, first[-1][1]):
        for mine, one in zip(found, expected):
            torch.testing.assert_close(mine, one, atol=1e-5, rtol=1e-5)


def whole_text_over_ranks(group):
    scorer = scorer_over(group)
    whole = scorer(IDS, ends=True)
    chunks = [scorer(IDS[:, :50]), scorer(IDS[:, 50:], ends=True)]
    again = scorer(IDS[:, :1], ends=True)
    return whole, torch.cat(chunks, 1), again.shape


@torch.no_grad()
def test_a_text_that_ends_leaves_nothing_behind(pool):
    expected = NllScorer(convert_model(tiny_model(), CONFIG))(IDS)
    for whole, chunks, again in pool.run(3, whole_text_over_ranks):
        torch.testing.assert_close(whole, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(chunks, expected, atol=1e-5, rtol=1e-5)
        assert again == (2, 0)


def state_of_first_rank(group):
    scorer = scorer_over(group)
    scorer(IDS)
    scorer.state(0)


def test_only_the_last_rank_has_what_the_next_chunk_needs(pool):
    (_, error), (_, none) = pool.try_run(2, state_of_first_rank)
    assert "on the last rank" in error and none is None


def read_alone(group):
    scorer = scorer_over(group)
    with reading_alone(scorer.model):
        return StreamScorer(scorer.model)(IDS)


@torch.no_grad()
def test_a_rank_may_read_alone(pool):
    expected = NllScorer(convert_model(tiny_model(), CONFIG))(IDS)
    for found in pool.run(2, read_alone):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
