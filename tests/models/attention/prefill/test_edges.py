"""The edges of a window by torch's fused attention: the dense definition, in blocks of all shapes and in chunks."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attention.decode.cache import new_layer
from models.attention.prefill import edges, fused_cpu, rolling_window
from models.errors import UserError
from models.lambda_attention import LambdaConfig, lambda_attention
from tests.models.attention.attention_cases import make_case

EXACT = {"rtol": 0, "atol": 2e-6}


@pytest.fixture(autouse=True)
def small_segments(monkeypatch) -> None:
    small = {name: dataclasses.replace(backend, segment=41) for name, backend in rolling_window.BACKENDS.items()}
    monkeypatch.setattr(rolling_window, "BACKENDS", small)
    monkeypatch.setattr(edges, "QUERY_BLOCK", 8)
    monkeypatch.setattr(edges, "JOINED_AT_ONCE", 12)


@st.composite
def cases(draw):
    local = draw(st.sampled_from([1, 2, 5, 8, 13, 16, 30]))
    sinks = draw(st.sampled_from(["text", "text", "cache"]))
    limit = None if sinks == "cache" else draw(st.sampled_from([None, local, local + 4, 100]))
    config = LambdaConfig(local, draw(st.sampled_from([0, 1, 3, 20])), limit, backend="edges", sink_positions=sinks)
    shape = {name: draw(st.sampled_from([1, 2])) for name in ("batch", "key_heads")}
    length = draw(st.sampled_from([2, local + 1, 37, 50, 90]))
    encoding = draw(st.sampled_from(["rotary", "interleaved"]))
    shape["learned_sink"] = draw(st.booleans())
    group, seed = draw(st.sampled_from([1, 3])), draw(st.integers(0, 99))
    return make_case(config, length, encoding, seed=seed, group=group, **shape)


def in_chunks(case, sizes: list[int]) -> torch.Tensor:
    past, parts, start, length = new_layer(case.layer.config), [], 0, case.query.shape[2]
    while start < length:
        stop = min(length, start + sizes[len(parts) % len(sizes)])
        parts.append(case.attend(slice(start, stop), past))
        start = stop
    return torch.cat(parts, 2)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(cases(), st.lists(st.sampled_from([1, 2, 5, 17, 40]), min_size=1, max_size=3), st.booleans())
def test_equals_the_dense_definition_at_once_and_in_chunks(case, sizes, heads_apart):
    expected = case.expected()
    with pytest.MonkeyPatch.context() as patch:
        if heads_apart:
            patch.setattr(edges, "PART_BYTES", 1)
        for found in (case.attend(), in_chunks(case, sizes)):
            torch.testing.assert_close(found.double(), expected, **EXACT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_precisions_stay_what_they_are(dtype):
    case = make_case(LambdaConfig(8, 3, 8, backend="edges"), 60, batch=2, key_heads=2, group=2, dtype=dtype)
    found = case.attend()
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), case.expected(), rtol=0, atol=4e-2 if dtype.itemsize == 2 else 1e-6)


def test_all_blocks_of_a_segment_are_one_call_of_each_kind(monkeypatch):
    shapes, attend = [], edges._attend

    def recorded(query, key, value, layer, causal):
        shapes.append((query.shape[0], query.shape[2], key.shape[2], causal))
        return attend(query, key, value, layer, causal)

    monkeypatch.setattr(edges, "_attend", recorded)
    make_case(LambdaConfig(12, 3, 12, backend="edges"), 41).attend()
    first = [(1, 8, 8, True), (1, 4, 4, True), (1, 4, 8, False)]  # up to position 12 no query loses a key
    rest = [(3, 8, 8, True), (3, 8, 4, False), (3, 7, 7, True), (1, 5, 5, True), (1, 5, 7, False), (1, 4, 4, True)]
    assert shapes == first + rest


def test_a_batch_of_no_rows_has_none():
    case = make_case(LambdaConfig(12, 3, 12, backend="edges"), 60)
    empty = lambda_attention(case.query[:0], case.key[:0], case.value[:0], case.layer)
    assert empty.shape == (0, *case.query.shape[1:])


def test_heads_that_are_attended_apart_are_those_attended_at_once(monkeypatch):
    case = make_case(LambdaConfig(12, 3, 12, backend="edges"), 60, key_heads=5, group=3, learned_sink=True)
    heads, attend = [], edges._attend_heads

    def recorded(segment, layer, output):
        heads.append(segment.query.shape[1])
        attend(segment, layer, output)

    monkeypatch.setattr(edges, "_attend_heads", recorded)
    at_once = case.attend()
    monkeypatch.setattr(edges, "PART_BYTES", 2 * case.query[:, :3, :41].nbytes)
    torch.testing.assert_close(case.attend(), at_once, **EXACT)
    assert heads[:2] == [15, 15] and heads[2:5] == [6, 6, 3]


@pytest.mark.parametrize(
    ("config", "encoding", "what"),
    [({}, "alibi", "rotary positions, not ALiBi"), ({"soft_cap": 5.0}, "rotary", "scores that are not capped softly")],
)
def test_what_it_cannot_do_is_refused(config, encoding, what):
    case = make_case(LambdaConfig(8, 3, 8, backend="edges"), 30, encoding)
    case = dataclasses.replace(case, layer=dataclasses.replace(case.layer, **config))
    with pytest.raises(UserError, match=f"^--backend edges needs {what}: take blockwise, or leave it out$"):
        case.attend()


def test_a_limit_inside_the_window_is_refused_at_once():
    with pytest.raises(ValueError, match="backend edges has no limit inside the window"):
        LambdaConfig(8, 3, 4, backend="edges")


@pytest.mark.parametrize("shares", [True, False])
def test_a_torch_whose_operator_shares_no_key_heads(shares, monkeypatch):
    assert fused_cpu._shares_key_heads() in (True, False)
    case = make_case(LambdaConfig(8, 3, 8, backend="edges"), 60, batch=2, key_heads=2, group=3)
    if not shares:
        monkeypatch.setattr(fused_cpu, "_shares_key_heads", lambda: False)
    torch.testing.assert_close(case.attend().double(), case.expected(), **EXACT)
