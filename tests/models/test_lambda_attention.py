"""Every way to compute Λ-attention against its dense definition."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from models.attention.decode import one_token as decode
from models.attention.decode.cache import LambdaLayer, new_layer
from models.attention.prefill import blockwise
from models.attention.prefill import rolling_window as prefill
from models.lambda_attention import LambdaConfig, TopK
from tests.models.attention.attention_cases import make_case

ENCODINGS = ("rotary", "interleaved", "alibi", "none")
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 4e-2, torch.float16: 5e-3}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and segments far smaller than the tests' sequences, and dividing none of them."""
    monkeypatch.setattr(blockwise, "QUERY_BLOCK", 7)
    monkeypatch.setattr(decode, "HOST_BLOCK", 5)
    small = {name: dataclasses.replace(backend, segment=16) for name, backend in prefill.BACKENDS.items()}
    monkeypatch.setattr(prefill, "BACKENDS", small)


def top_ks():
    return st.builds(TopK, st.sampled_from([1, 3]), st.sampled_from([0, 5]), offload=st.booleans())


@st.composite
def cases(draw):
    local = draw(st.sampled_from([1, 2, 5, 8, 16]))
    sinks = draw(st.sampled_from(["text", "text", "cache"]))
    limit = None if sinks == "cache" else draw(st.sampled_from([None, local, 1, 3, local + 4, 100]))
    middle = draw(st.sampled_from(["none", "triangle", "top_k"]))
    config = LambdaConfig(
        local_branch=local,
        global_branch=draw(st.sampled_from([0, 1, 3, 20])),
        limit_distance=limit,
        triangle_offset=0.7 if middle == "triangle" and limit is not None else 0.0,
        top_k=draw(top_ks()) if middle == "top_k" else None,
        backend=draw(st.sampled_from(["blockwise", "flex"])) if middle == "none" else "auto",
        sink_positions=sinks,
    )
    length = draw(st.sampled_from([1, 2, local, local + 1, max(1, local - 1), 2 * local + 3, 37, 50]))
    shape = {name: draw(st.sampled_from([1, 2])) for name in ("batch", "key_heads")}
    shape["group"] = draw(st.sampled_from([1, 3]))
    encoding = draw(st.sampled_from(ENCODINGS))
    cap = None if encoding == "alibi" else draw(st.sampled_from([None, None, 0.5]))
    shape |= {"soft_cap": cap, "learned_sink": draw(st.booleans())}
    return make_case(config, length, encoding, seed=draw(st.integers(0, 99)), **shape)


def chunks(length: int, sizes: list[int]) -> list[slice]:
    """Cut `length` into chunks of the given sizes, over and over."""
    cuts, start = [], 0
    while start < length:
        size = sizes[len(cuts) % len(sizes)]
        cuts.append(slice(start, min(start + size, length)))
        start += size
    return cuts


@settings(max_examples=80, deadline=None, derandomize=True)
@given(cases(), st.lists(st.sampled_from([1, 2, 5, 17]), min_size=1, max_size=4))
def test_equals_the_dense_definition_at_once_and_in_chunks(case, sizes):
    expected = case.expected()
    torch.testing.assert_close(case.attend().double(), expected, rtol=0, atol=2e-6)
    past = new_layer(case.layer.config)
    parts = [case.attend(columns, past).double() for columns in chunks(expected.shape[2], sizes)]
    checked = slice(-1, None) if case.layer.config.top_k else slice(None)  # only a forward's last query takes the top k
    torch.testing.assert_close(torch.cat(parts, 2)[:, :, checked], expected[:, :, checked], rtol=0, atol=2e-6)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_chunks_across_the_real_segments_and_blocks_are_as_whole(encoding, monkeypatch):
    monkeypatch.undo()
    case = make_case(LambdaConfig(257, 3, 257), 2305, encoding, key_heads=2, group=2)
    past = new_layer(case.layer.config)
    parts = [case.attend(columns, past) for columns in chunks(2305, [256, 1, 2000])]
    whole = case.attend()
    torch.testing.assert_close(torch.cat(parts, 2), whole, rtol=0, atol=2e-6)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_every_dtype(dtype, encoding):
    case = make_case(LambdaConfig(8, 3, 8), 40, encoding, batch=2, key_heads=2, group=2, dtype=dtype)
    output, past = case.attend(), new_layer(case.layer.config)
    steps = torch.cat([case.attend(columns, past) for columns in chunks(40, [11, 1])], 2)
    for result in (output, steps):
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), case.expected(), rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("shift", [-200.0, -30.0, 30.0, 200.0])
def test_a_learned_sink_logit_far_from_the_scores(shift):
    """Where the sums of weights leave their range, and a block is done again."""
    case = make_case(LambdaConfig(8, 3, 8), 40, key_heads=2, group=2, learned_sink=True)
    layer = dataclasses.replace(case.layer, sink_logit=case.layer.sink_logit + shift)
    case, past = dataclasses.replace(case, layer=layer), LambdaLayer(layer.config)
    steps = torch.cat([case.attend(columns, past) for columns in chunks(40, [11, 1])], 2)
    for result in (case.attend(), steps):
        torch.testing.assert_close(result.double(), case.expected(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("middle", range(6))
def test_fewer_than_k_tokens_in_between_are_not_taken(middle):
    """As published; with k of them and more, the last token attends to k."""
    plain, with_top_k = LambdaConfig(8, 3, 8), LambdaConfig(8, 3, 8, top_k=TopK(4, 5))
    case = make_case(with_top_k, 8 + 3 + middle, batch=2, key_heads=2, group=2)
    without = dataclasses.replace(case, layer=dataclasses.replace(case.layer, config=plain))
    torch.testing.assert_close(case.attend().double(), case.expected(), rtol=0, atol=2e-6)
    assert torch.allclose(case.attend(), without.attend(), atol=2e-6) == (middle < 4)


def test_float16_scores_do_not_overflow():
    case = make_case(LambdaConfig(8, 3, 8), 20, dtype=torch.float16)
    large = dataclasses.replace(case, query=case.query * 150, key=case.key * 150)
    assert large.attend().isfinite().all()


def test_below_the_window_it_is_full_causal_attention():
    case = make_case(LambdaConfig(64, 4, 64), 40, key_heads=2, group=2)
    positions = case.layer.positions
    full = torch.nn.functional.scaled_dot_product_attention(
        positions.at(case.query, 0), positions.at(case.key, 0), case.value, is_causal=True, enable_gqa=True
    )
    torch.testing.assert_close(case.attend(), full, rtol=0, atol=2e-6)


class _LargestTensor(TorchDispatchMode):
    numel, integers = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numel = max(self.numel, result.numel())
            self.integers = max(self.integers, 0 if result.is_floating_point() else result.numel())
        return result


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_no_tensor_grows_with_the_square_of_the_length(offset, monkeypatch):
    monkeypatch.setattr(blockwise, "QUERY_BLOCK", 256)
    monkeypatch.setattr(blockwise, "SCORE_BUFFER_BYTES", 2**20)
    length = 4096
    case = make_case(LambdaConfig(16, 2, 16, triangle_offset=offset), length)
    with _LargestTensor() as largest:
        case.attend()
    assert largest.numel <= length**2 // 10


def test_rotary_attention_makes_no_distances_as_wide_as_the_window():
    """They would be twice the size of a head's scores, and the last few of them are remembered."""
    case = make_case(LambdaConfig(2000, 2, 2000), 2400)
    with _LargestTensor() as largest:
        case.attend()
    assert largest.integers <= 2400


def test_the_triangle_is_the_middle_at_the_limit_less_the_offset():
    """Two middle keys, both branches empty but for the query itself: worked out by hand."""
    config = LambdaConfig(local_branch=1, global_branch=0, limit_distance=1, triangle_offset=2.0)
    case = make_case(config, 3, "alibi")
    query, key, slope = case.query[0, 0, 2], case.key[0, 0], case.layer.positions.slopes[0]
    scores = key @ query * case.layer.scale
    scores[:2] -= slope + 2.0 * torch.tensor(2.0).log()
    torch.testing.assert_close(case.attend()[0, 0, 2], scores.softmax(0) @ case.value[0, 0])


@pytest.mark.parametrize("backend", ["blockwise", "flex"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_positions_in_the_cache_are_those_of_a_text_without_the_middle(encoding, backend):
    """As StreamingLLM has it: full attention to the first tokens and the last L, numbered as they lie in the cache."""
    config = LambdaConfig(8, 3, None, sink_positions="cache", backend=backend)
    case = make_case(config, 30, encoding, batch=2, key_heads=2, group=2)
    kept = [*range(3), *range(22, 30)]
    cached = dataclasses.replace(
        case,
        **{name: getattr(case, name)[:, :, kept] for name in ("query", "key", "value")},
        layer=dataclasses.replace(case.layer, config=LambdaConfig(100, 0, None)),
    )
    expected = cached.attend()[:, :, -1:]
    past = LambdaLayer(config)
    case.attend(slice(0, 29), past)
    for newest in (case.attend()[:, :, -1:], case.attend(slice(29, 30), past)):
        torch.testing.assert_close(newest, expected, rtol=0, atol=2e-6)


def host_and_device(top_k: TopK, device: str) -> list[torch.Tensor]:
    """Decoded outputs of one case with the middle in host memory, and with it on the device."""
    outputs = []
    for offload in (True, False):
        config = LambdaConfig(8, 3, 8, top_k=dataclasses.replace(top_k, offload=offload), backend="blockwise")
        case, past = make_case(config, 60, batch=2, key_heads=2, group=2), LambdaLayer(config)
        case = dataclasses.replace(case, **{name: getattr(case, name).to(device) for name in ("query", "key", "value")})
        outputs.append(torch.cat([case.attend(columns, past) for columns in chunks(60, [31, 1, 1])], 2))
        assert past.history_keys.device.type == ("cpu" if offload else device)
    return outputs


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_the_top_k_are_the_same_in_host_memory_as_on_the_device():
    torch.testing.assert_close(*host_and_device(TopK(3, 5), "cuda"), rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"k": 0}, "top_k_attention"),
        ({"insert_at": -1}, "top_k_insert_at"),
        ({"from_layer": -1}, "top_k_from_layer"),
        ({"from_layer": 4, "to_layer": 4}, "top_k_to_layer 4 is not beyond top_k_from_layer 4"),
    ],
)
def test_impossible_top_k_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        TopK(**{"k": 3, "insert_at": 5, **arguments})


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"local_branch": 0}, "local_branch"),
        ({"global_branch": -1}, "global_branch"),
        ({"limit_distance": 0}, "limit_distance"),
        ({"limit_distance": None, "triangle_offset": 1.0}, "triangle_offset"),
        ({"triangle_offset": 1.0, "backend": "flex"}, "triangle_offset"),
        ({"triangle_offset": 1.0, "top_k": TopK(1, 1)}, "top-k"),
        ({"backend": "fastest"}, "backend"),
        ({"sink_positions": "window"}, "sink_positions"),
        ({"sink_positions": "cache"}, "sink_positions cache contradicts limit_distance 8"),
    ],
)
def test_impossible_configurations_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        LambdaConfig(**{"local_branch": 8, "global_branch": 2, "limit_distance": 8, **arguments})


def test_configuration_survives_json():
    config = LambdaConfig(8, 2, None, top_k=TopK(3, 5, 1, 4, offload=True), sink_positions="cache")
    assert LambdaConfig.from_dict(config.to_dict()) == config
