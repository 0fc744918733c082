"""One decoded token in one call of C++: the numbers of the operations written out, and where it is taken."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.attention.decode import compiled_step, one_token
from models.attention.decode.cache import new_layer
from models.attention.positions import RotaryPositions
from models.lambda_attention import LambdaConfig, TopK
from tests.models.attention.attention_cases import make_case

built = pytest.mark.skipif(
    compiled_step.compiled("decode_step", compiled_step.ARGUMENTS) is None, reason="needs what `make kernel` compiles"
)
TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 3e-2}


@pytest.fixture
def calls(monkeypatch) -> list:
    """How often the pass was called."""
    found, run = [], one_token.attend_compiled

    def counted(*arguments):
        found.append(1)
        return run(*arguments)

    monkeypatch.setattr(one_token, "attend_compiled", counted)
    return found


def decoded(case, first: int) -> torch.Tensor:
    """All of a text: `first` tokens at once, the others one by one."""
    past, length = new_layer(case.layer.config, case.layer.layer_idx), case.query.shape[2]
    parts = [case.attend(slice(0, first), past)] if first else []
    return torch.cat([*parts, *(case.attend(slice(place, place + 1), past) for place in range(first, length))], 2)


@st.composite
def cases(draw):
    local = draw(st.sampled_from([1, 2, 5, 16, 30, 300]))
    config = LambdaConfig(local, draw(st.sampled_from([0, 1, 3, 20])), draw(st.sampled_from([local, None])))
    shape = {name: draw(st.sampled_from([1, 2])) for name in ("batch", "key_heads")}
    shape |= {"group": draw(st.sampled_from([1, 3])), "width": draw(st.sampled_from([16, 48]))}
    shape |= {"learned_sink": draw(st.booleans()), "seed": draw(st.integers(0, 99))}
    encoding = draw(st.sampled_from(["rotary", "interleaved"]))
    return make_case(config, draw(st.sampled_from([3, 40, 50])) + local % 37, encoding, **shape)


@built
@settings(max_examples=60, deadline=None, derandomize=True)
@given(cases(), st.sampled_from([0, 1, 30]))
def test_equals_the_dense_definition(case, first):
    torch.testing.assert_close(decoded(case, first).double(), case.expected(), rtol=0, atol=TOLERANCE[torch.float32])


@built
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("length", [30, 700])
def test_so_it_does_over_several_pieces_in_each_precision(dtype, length, calls, monkeypatch):
    """A window of 600 is several pieces; scores of tens of nats are in it."""
    config = LambdaConfig(600, 10, 600)
    case = make_case(config, length, batch=2, key_heads=3, group=3, width=64, learned_sink=True, dtype=dtype)
    case = dataclasses.replace(case, query=4 * case.query)
    first = length - 25
    found = decoded(case, first)[:, :, first:]
    assert len(calls) == 25 and found.dtype == dtype
    monkeypatch.setattr(one_token, "pass_for", lambda *_: None)
    written_out = decoded(case, first)[:, :, first:]
    torch.testing.assert_close(found, written_out, rtol=0, atol=4 * TOLERANCE[dtype])
    if dtype == torch.float32 and length == 30:  # the reference takes its time
        torch.testing.assert_close(found.double(), case.expected()[:, :, first:], rtol=0, atol=1e-5)


@built
def test_the_ring_is_what_it_is_written_out(monkeypatch):
    case, rings = make_case(LambdaConfig(20, 3, 20), 50, key_heads=2, width=16, dtype=torch.bfloat16), []
    for run in (one_token.pass_for, lambda *_: None):
        monkeypatch.setattr(one_token, "pass_for", run)
        past = new_layer(case.layer.config)
        for place in range(50):
            case.attend(slice(place, place + 1), past)
        rings.append((past.keys, past.values, past.sink_keys, past.seen))
    for own, other in zip(*rings):
        torch.testing.assert_close(own, other, rtol=2**-7, atol=1e-6)


@built
def test_keys_that_are_not_contiguous(calls):
    """As a projection of all three gives them."""
    case = make_case(LambdaConfig(20, 3, 20), 40, batch=2, key_heads=2, width=16)
    spread = dataclasses.replace(
        case, key=torch.cat([case.key, case.key], -1)[..., :16], query=case.query.mT.contiguous().mT
    )
    torch.testing.assert_close(decoded(spread, 30), decoded(case, 30), rtol=0, atol=1e-6)
    assert len(calls) == 20


@built
@pytest.mark.parametrize(
    ("config", "changed", "taken"),
    [
        ({}, {}, True),
        ({"limit_distance": 12}, {}, False),
        ({"limit_distance": 30}, {}, False),
        ({"limit_distance": None, "sink_positions": "cache"}, {}, False),
        ({"limit_distance": None, "global_branch": 0}, {}, True),
        ({"top_k": TopK(2, 10)}, {}, False),
        ({}, {"encoding": "alibi"}, False),
        ({}, {"soft_cap": 5.0}, False),
        ({}, {"width": 8}, False),
        ({}, {"dtype": torch.float64}, False),
        ({}, {"dtype": torch.float16}, False),
    ],
)
def test_what_it_does_not_do_is_written_out(config, changed, taken, calls):
    soft_cap = changed.pop("soft_cap", None)
    config = LambdaConfig(**{"local_branch": 20, "global_branch": 3, "limit_distance": 20, **config})
    case = make_case(config, 40, **{"width": 16, **changed})
    case = dataclasses.replace(case, layer=dataclasses.replace(case.layer, soft_cap=soft_cap))
    decoded(case, 30)
    assert bool(calls) == taken


@built
def test_rows_at_several_positions_are_written_out(calls):
    case = make_case(LambdaConfig(20, 3, 20), 40, batch=2, width=16)
    past = new_layer(case.layer.config)
    case.attend(slice(0, 30), past)
    past.seen = [30, 25]
    case.attend(slice(30, 31), past)
    assert not calls


@built
@pytest.mark.parametrize("name", ["keys", "values", "sink_keys", "sink_values"])
def test_memory_that_is_not_contiguous_is_not_written_to(name, calls):
    case = make_case(LambdaConfig(20, 3, 20), 40, key_heads=2, width=16)
    expected, past = decoded(case, 30), new_layer(case.layer.config)
    case.attend(slice(0, 30), past)
    wide = torch.cat([getattr(past, name)] * 2, -1)
    setattr(past, name, wide[..., :16])
    calls.clear()
    found = torch.cat([case.attend(slice(place, place + 1), past) for place in range(30, 40)], 2)
    torch.testing.assert_close(found, expected[:, :, 30:], rtol=0, atol=2e-6)
    assert not calls


@built
@pytest.mark.parametrize("value_width", [16, 48])
def test_all_features_turned_and_values_of_another_width(value_width, calls):
    case = make_case(LambdaConfig(20, 3, 20), 60, batch=2, key_heads=2, group=2, width=32)
    inv_freq = 100.0 ** -(torch.arange(0, 32, 2, dtype=torch.float64) / 32)
    layer = dataclasses.replace(case.layer, positions=RotaryPositions(inv_freq))
    case = dataclasses.replace(case, layer=layer, value=torch.randn(2, 2, 60, value_width))
    torch.testing.assert_close(decoded(case, 10).double(), case.expected(), rtol=0, atol=2e-6)
    assert len(calls) == 50
