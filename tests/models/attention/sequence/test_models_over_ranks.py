"""A model that ranks read one sequence with gives the logits that it gives on one rank."""

import re
from itertools import pairwise

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh

from models.assumptions import OUTPUT_CACHE, with_cache
from models.attention.config import LambdaConfig, TopK
from models.attention.decode.cache import LambdaCache
from models.attention.sequence import attend
from models.attention.sequence.caches import reading_alone, share_cache
from models.attention.sequence.messages import Message
from models.attention.sequence.stretches import share_of
from models.model_base import convert_model
from tests.rank_pool import rank_pool
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

CONFIG = LambdaConfig(8, 3, 8)
CONFIGS = {
    "usual": CONFIG,
    "limit within": LambdaConfig(8, 3, 5),
    "limit beyond": LambdaConfig(8, 3, 13),
    "no limit": LambdaConfig(8, 3, None),
    "cache positions": LambdaConfig(8, 3, None, sink_positions="cache"),
    "no first tokens": LambdaConfig(8, 0, 8),
    "many first tokens": LambdaConfig(4, 15, 4),
    "window of one": LambdaConfig(1, 2, 1),
}
EVEN = "even"
CHUNKS = {
    "long stretches": [(61, EVEN)],
    "short stretches": [(13, EVEN), (7, EVEN), (1, EVEN), (2, EVEN)],
    "two chunks": [(40, EVEN), (33, EVEN)],
    "uneven": [(21, (1, 3, 0, 17)), (24, (0, 20, 4, 0)), (9, (9, 0, 0, 0)), (30, (0, 0, 0, 30))],
}


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    with rank_pool(tmp_path_factory.mktemp("ranks"), __name__) as pool:
        yield pool


def stretches_of(chunk, ranks: int) -> list[slice]:
    tokens, lengths = chunk
    if lengths == EVEN:
        return [share_of(rank, ranks, tokens) for rank in range(ranks)]
    ends = torch.tensor([0, *lengths]).cumsum(0).tolist()
    assert ends[-1] == tokens
    return [slice(*pair) for pair in pairwise(ends)]


def read(group, model, ids, chunks, cache=None):
    """This rank's logits of each chunk, and the cache. ids: those of all ranks."""
    rank, ranks, done, logits = group.rank(), group.size(), 0, []
    for chunk in chunks:
        part = stretches_of(chunk, ranks)[rank]
        own = ids[:, done + part.start : done + part.stop]
        length = own.shape[1]
        mask = None if length else torch.zeros(len(ids), 1, dtype=torch.int64)
        own = own if length else torch.zeros(len(ids), 1, dtype=torch.int64)
        output = model(own, attention_mask=mask, **with_cache(model, cache), use_cache=True)
        logits.append(output.logits[:, :length])
        cache, done = output[OUTPUT_CACHE], done + chunk[0]
    return logits, cache


def model_over(group, model_type, config, **overrides):
    return convert_model(tiny_model(model_type, **overrides), config, sequence_group=group)


def logits_over_ranks(group, model_type, config, ids, chunks, dtype=torch.float32):
    return read(group, model_over(group, model_type, config).to(dtype), ids, chunks)[0]


def assert_like_one_rank(pool, ranks, model_type, config, chunks, dtype=torch.float32, rows=2, tolerance=1e-5):
    ids = tiny_input_ids(rows, sum(tokens for tokens, _ in chunks))
    expected = convert_model(tiny_model(model_type), config).to(dtype)(ids, use_cache=False).logits
    parts = pool.run(ranks, logits_over_ranks, model_type, config, ids, chunks, dtype)
    joined = torch.cat([part for by_rank in zip(*parts) for part in by_rank], 1)
    torch.testing.assert_close(joined, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("chunks", ["long stretches", "short stretches", "two chunks"])
@torch.no_grad()
def test_any_number_of_ranks_and_any_stretches(pool, ranks, chunks):
    assert_like_one_rank(pool, ranks, "llama", CONFIG, CHUNKS[chunks])


@pytest.mark.parametrize("model_type", ["llama", "gptj", "gpt_neox", "mpt", "gpt_oss", "gemma2", "cohere2"])
@pytest.mark.parametrize("config", CONFIGS)
@torch.no_grad()
def test_every_method_and_kind_of_model(pool, model_type, config):
    assert_like_one_rank(pool, 4, model_type, CONFIGS[config], CHUNKS["uneven"])
    assert_like_one_rank(pool, 3, model_type, CONFIGS[config], CHUNKS["short stretches"], rows=1)


def logits_over_a_mesh(group, ids, chunks):
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "sequence"))["sequence"]
    return read(mesh.get_group(), model_over(mesh, "llama", CONFIG), ids, chunks)[0]


@torch.no_grad()
def test_a_dimension_of_a_device_mesh_is_a_group(pool):
    ids = tiny_input_ids(2, 73)
    expected = convert_model(tiny_model(), CONFIG)(ids, use_cache=False).logits
    first, second, *others = pool.run(4, logits_over_a_mesh, ids, CHUNKS["two chunks"])
    joined = torch.cat([part for by_rank in zip(first, second) for part in by_rank], 1)
    torch.testing.assert_close(joined, expected, atol=1e-5, rtol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip([*first, *second], [*others[0], *others[1]]))


FAR = 10**9 + 7


def stream_at(model, position: int) -> LambdaCache:
    """The cache of a stream that has read so many tokens, the last of which are those of a short text."""
    short = model(tiny_input_ids(1, 30), use_cache=True)[OUTPUT_CACHE]
    cache = LambdaCache(CONFIG, 2)
    for layer, other in zip(cache.layers, short.layers):
        slots = (torch.arange(8) + 30 - 8) % 8  # the ring turned to where those positions have their slots
        moved = (torch.arange(8) + position - 8) % 8
        tensors = other.tensors()
        for name in ("keys", "values"):
            turned = tensors[name].clone()
            turned[:, :, moved] = tensors[name][:, :, slots]
            tensors[name] = turned
        layer.restore(tensors, position)
    return cache


def far_logits_over_ranks(group, ids, chunks):
    alone, model = convert_model(tiny_model(), CONFIG), model_over(group, "llama", CONFIG)
    return read(group, model, ids, chunks, stream_at(alone, FAR))[0]


@torch.no_grad()
def test_positions_beyond_a_billion(pool):
    ids, model = tiny_input_ids(1, 24), convert_model(tiny_model(), CONFIG)
    expected = model(ids, **with_cache(model, stream_at(model, FAR))).logits
    parts = pool.run(3, far_logits_over_ranks, ids, [(11, EVEN), (13, EVEN)])
    joined = torch.cat([part for by_rank in zip(*parts) for part in by_rank], 1)
    torch.testing.assert_close(joined, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_half_precision(pool):
    assert_like_one_rank(pool, 3, "llama", CONFIG, CHUNKS["two chunks"], torch.bfloat16, tolerance=0.2)


def logits_without_a_cache(group, ids):
    model, found = model_over(group, "llama", CONFIG), []
    empty, mask = torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 1, dtype=torch.int64)
    for _ in range(2):  # a message that nobody waits for would be taken for one of the next forward
        if group.rank():
            model(empty, attention_mask=mask, use_cache=False)
        else:
            found.append(model(ids, use_cache=False).logits)
        part = stretches_of((ids.shape[1], EVEN), 2)[group.rank()]
        found.append(model(ids[:, part], use_cache=False).logits)
    return found


@torch.no_grad()
def test_an_empty_last_stretch_without_a_cache_leaves_no_message_behind(pool):
    ids = tiny_input_ids(1, 20)
    expected = convert_model(tiny_model(), CONFIG)(ids, use_cache=False).logits
    (whole, first, again, same), (second, _) = pool.run(2, logits_without_a_cache, ids)
    for logits in (whole, again):
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
    for logits in (torch.cat([first, second], 1), torch.cat([same, second], 1)):
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def decoded_over_ranks(group, ids, chunks, shared):
    model = model_over(group, "llama", CONFIG)
    _, cache = read(group, model, ids, chunks)
    if shared:
        share_cache(cache, group)
    elif group.rank() < group.size() - 1:
        return None
    with reading_alone(model):
        out = model.generate(ids, max_new_tokens=12, do_sample=False, **{OUTPUT_CACHE: cache})
    return out[:, ids.shape[1] :]


@pytest.mark.parametrize("shared", [True, False])
@torch.no_grad()
def test_the_last_rank_decodes_and_the_others_follow_once_the_cache_is_shared(pool, shared):
    chunks = [(5, (1, 1, 3)), (15, EVEN), (17, EVEN)]
    ids = tiny_input_ids(2, 38)  # one more than was read: generate reads it
    expected = convert_model(tiny_model(), CONFIG).generate(ids, max_new_tokens=12, do_sample=False)[:, 38:]
    answers = pool.run(3, decoded_over_ranks, ids, chunks, shared)
    assert torch.equal(answers[-1], expected)
    assert all(torch.equal(answer, expected) if shared else answer is None for answer in answers[:-1])


def bytes_over_ranks(group, ids, chunks):
    model = model_over(group, "llama", CONFIG)
    _, cache = read(group, model, ids, chunks)
    return model.base_model.lambda_conversion.sequence.bytes_sent, cache.nbytes()


@torch.no_grad()
def test_bytes_sent_are_those_of_windows_and_first_tokens_and_caches_stay_bounded(pool):
    ids, chunks = tiny_input_ids(2, 120), [(60, EVEN), (60, EVEN)]
    (sent, held) = zip(*pool.run(3, bytes_over_ranks, ids, chunks))
    layers, per_token = 2, 2 * 2 * (8 + 8) * 4  # rows, key heads, key and value, float32
    windows = [7 + 7, 7 + 7, 7]  # to the next rank in both chunks; from the last to the first between them
    assert list(sent) == [layers * per_token * (n + first) for n, first in zip(windows, (2 * 3, 0, 0))]
    assert max(held) <= layers * per_token * (8 + 3)


def refused_over_ranks(group, what, ids):
    model = model_over(group, "llama", CONFIG)
    rank = group.rank()
    if what == "padding":
        model(ids, attention_mask=torch.tensor([[0, 1, 1, 1]]) if rank else None)
    if what == "rows":
        model(ids.repeat(1 + rank, 1))
    if what == "caches":
        cache = model(ids, use_cache=True)[OUTPUT_CACHE]
        model(ids, **with_cache(model, cache if rank else None))
    if what == "window":
        cache = model(ids, use_cache=True)[OUTPUT_CACHE]
        with reading_alone(model):
            model(ids, **with_cache(model, cache))
    if what == "argument":
        model(ids, **({"output_attentions": True} if rank else {}))
    if what == "generate":
        model.generate(ids, max_new_tokens=2)
    if what == "nothing":
        model(ids[:, :1], attention_mask=torch.zeros(1, 1, dtype=torch.int64))


@pytest.mark.parametrize(
    "what, ranks, sentence",
    [
        ("padding", {0, 1}, "padding is not supported.*rank 1 was given some"),
        ("rows", {0, 1}, r"read \[1, 2\] rows"),
        ("caches", {0, 1}, r"stand at tokens \[0, 8\]"),
        ("window", {0}, "share_cache"),
        ("generate", {0, 1}, "generate reads by itself.*reading_alone"),
        ("nothing", {0, 1}, "no rank of the sequence_group has a token"),
    ],
)
def test_what_does_not_fit_together_is_refused_on_every_rank(pool, what, ranks, sentence):
    answers = pool.try_run(2, refused_over_ranks, what, tiny_input_ids(1, 4))
    for rank, (_, error) in enumerate(answers):
        if rank in ranks:
            assert error and re.search(f"ValueError: .*{sentence}", error)
        else:
            assert error is None


def test_an_argument_that_one_rank_is_refused_is_an_error_of_all(pool):
    (_, other), (_, own) = pool.try_run(2, refused_over_ranks, "argument", tiny_input_ids(1, 4))
    assert "ValueError: rank 1 of the sequence_group cannot take part" in other
    assert "output_attentions is not available" in own


def converted_with(group, config):
    model_over(group, "llama", config)


@pytest.mark.parametrize(
    "name, config",
    [
        ("triangle_offset", LambdaConfig(8, 3, 8, triangle_offset=1.0)),
        ("top_k_attention", LambdaConfig(8, 3, 8, top_k=TopK(2, 4))),
    ],
)
def test_methods_that_need_the_middle_are_refused_by_name(pool, name, config):
    (_, error), *_ = pool.try_run(2, converted_with, config)
    assert f"ValueError: {name} attends to all tokens in between" in error


def order_of_work(group, ids):
    """What one layer of this rank does in a second chunk, in its order."""
    model, done = model_over(group, "llama", CONFIG, num_hidden_layers=1), []
    attend_after, wait = attend.attend_after, Message.wait
    _, cache = read(group, model, ids, [(60, EVEN)])

    def attending(before, query, *others):
        done.append(("attend", query.shape[-2]))
        return attend_after(before, query, *others)

    def waiting(message):
        done.extend([("wait", None)] * bool(message._works))
        return wait(message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attend, "attend_after", attending)
        patch.setattr(Message, "wait", waiting)
        read(group, model, ids, [(60, EVEN)], cache)
    return done


def test_queries_that_need_nothing_from_before_are_attended_while_it_is_sent(pool):
    for done in pool.run(3, order_of_work, tiny_input_ids(1, 60)):
        assert done == [("attend", 20 - 7), ("wait", None), ("attend", 7)]
