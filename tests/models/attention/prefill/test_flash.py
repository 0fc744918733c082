"""The flash backend: torch's operator for the window, where what it can do is checked, and joined first tokens."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attention.decode.cache import new_layer
from models.attention.prefill import flash, rolling_window
from models.lambda_attention import LambdaConfig
from tests.models.attention.attention_cases import make_case
from tests.models.attention.flash_stand_in import flash_on_cpu

EXACT = {"rtol": 0, "atol": 2e-6}


@pytest.fixture(autouse=True)
def small_segments(monkeypatch) -> None:
    small = {name: dataclasses.replace(backend, segment=16) for name, backend in rolling_window.BACKENDS.items()}
    monkeypatch.setattr(rolling_window, "BACKENDS", small)


@st.composite
def cases(draw):
    local = draw(st.sampled_from([1, 2, 5, 16, 30]))
    sinks = draw(st.sampled_from(["text", "text", "cache"]))
    limit = None if sinks == "cache" else draw(st.sampled_from([None, local, local + 4, 100]))
    config = LambdaConfig(
        local, draw(st.sampled_from([0, 1, 3, 20])), limit, backend="flash", sink_positions=sinks, compiled=False
    )
    shape = {name: draw(st.sampled_from([1, 2])) for name in ("batch", "key_heads")}
    length = draw(st.sampled_from([2, local + 1, 37, 50]))
    encoding = draw(st.sampled_from(["rotary", "interleaved"]))
    group = draw(st.sampled_from([1, 3]))
    shape["learned_sink"] = draw(st.booleans())
    return make_case(config, length, encoding, seed=draw(st.integers(0, 99)), group=group, **shape)


def in_chunks(case, sizes: list[int]) -> torch.Tensor:
    past, parts, start, length = new_layer(case.layer.config), [], 0, case.query.shape[2]
    while start < length:
        stop = min(length, start + sizes[len(parts) % len(sizes)])
        parts.append(case.attend(slice(start, stop), past))
        start = stop
    return torch.cat(parts, 2)


@settings(max_examples=80, deadline=None, derandomize=True)
@given(cases(), st.lists(st.sampled_from([1, 2, 5, 17, 40]), min_size=1, max_size=3))
def test_equals_the_dense_definition_and_blockwise_at_once_and_in_chunks(case, sizes):
    expected, other = case.expected(), dataclasses.replace(case.layer.config, backend="blockwise")
    blockwise = dataclasses.replace(case, layer=dataclasses.replace(case.layer, config=other)).attend()
    with flash_on_cpu():
        for found in (case.attend(), in_chunks(case, sizes)):
            torch.testing.assert_close(found.double(), expected, **EXACT)
            torch.testing.assert_close(found, blockwise, **EXACT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_stays_what_it_is(dtype):
    case = make_case(LambdaConfig(8, 3, 8, backend="flash"), 60, batch=2, key_heads=2, group=2, dtype=dtype)
    with flash_on_cpu():
        found = case.attend()
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), case.expected(), rtol=0, atol=4e-2)


def test_every_segment_is_one_call_that_shares_key_heads(monkeypatch):
    """The first window's queries are in the first one; keys and values have as many heads as they had."""
    shapes, dense = [], flash._window

    def recorded(query, key, value, layer):
        shapes.append((*query.shape[1:3], *key.shape[1:3]))
        return dense(query, key, value, layer)

    monkeypatch.setattr(flash, "_window", recorded)
    case = make_case(LambdaConfig(8, 3, 8, backend="flash"), 40, key_heads=2, group=3)
    with flash_on_cpu():
        case.attend()
    assert shapes == [(6, 16, 2, 16), (6, 16, 2, 23), (6, 8, 2, 15)]


def test_the_operator_has_a_window_in_this_torch():
    """With another schema flash would not be chosen: the arguments are torch's own, 2.11 to 2.13."""
    assert flash._has_window()
    names = {x.name for x in torch.ops.aten._flash_attention_forward.default._schema.arguments}
    assert names >= {"scale", *flash.WINDOW}


@pytest.mark.parametrize("module", ["_fa3", "_fa4"])
def test_other_implementations_override_the_operator_that_is_called(module):
    """`activate_flash_attention_impl` registers one for what the backend calls, and returns the sums of scores too."""
    source = __import__(f"torch.nn.attention.{module}", fromlist=["__file__"]).__file__
    with open(source, encoding="utf-8") as file:
        text = file.read()
    assert '"_flash_attention_forward", ' in text.replace("\n        ", " ")
    assert "return out, lse, rng_state, philox_offset, debug_mask" in text


@pytest.mark.parametrize(
    ("has", "dtype", "capability", "lacking"),
    [
        (True, torch.bfloat16, (9, 0), None),
        (True, torch.float16, (8, 0), None),
        (True, torch.float32, (9, 0), "half precision"),
        (True, torch.bfloat16, (7, 5), "8.0 or newer"),
        (False, torch.bfloat16, (9, 0), "a torch that has flash attention with a window"),
    ],
)
def test_what_a_gpu_lacks(has, dtype, capability, lacking, monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(flash, "_has_window", lambda: has)
    found = flash.lacks_flash(torch.device("cuda", 0), dtype)
    assert found is None if lacking is None else lacking in found


def test_there_is_none_off_a_gpu():
    assert flash.lacks_flash(torch.device("cpu"), torch.bfloat16) == "an NVIDIA GPU"
