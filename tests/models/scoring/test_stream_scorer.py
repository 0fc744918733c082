"""A stream in chunks against one forward over the whole, at any position, and what its state is enough for."""

import pytest
import torch

from models.attention.config import LambdaConfig
from models.attention.decode.cache_state import cache_bytes
from models.attention.positions import RotaryPositions
from models.model_base import convert_model, extend_vanilla_positions
from models.scoring.nll_scorer import NllScorer
from models.scoring.stream_scorer import LAST_HIDDEN, StreamScorer
from tests.dense_reference import half_split_rotary
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

LOCAL, SINKS, LENGTH = 16, 4, 70
METHODS = {
    "vanilla": None,
    "limit at local": LambdaConfig(LOCAL, SINKS, LOCAL),
    "limit below local": LambdaConfig(LOCAL, SINKS, 9),
    "limit above local": LambdaConfig(LOCAL, SINKS, 40),
    "no limit": LambdaConfig(LOCAL, SINKS, None),
    "window alone": LambdaConfig(LOCAL, 0, LOCAL),
    "middle": LambdaConfig(LOCAL, SINKS, LOCAL, triangle_offset=0.5),
}
FAMILIES = ("llama", "gptj", "mpt")
CHUNKS = (1, 7, LOCAL + 1, 50, 2 * LENGTH)  # below, within and beyond each branch, the last one never full
CPU = torch.device("cpu")

every_method = pytest.mark.parametrize("method", METHODS)
capped_method = pytest.mark.parametrize("method", ["limit at local", "limit below local", "limit above local"])


def make_model(model_type="llama", method="limit at local"):
    model, config = tiny_model(model_type), METHODS[method]
    if config is None:
        extend_vanilla_positions(model)
        return model
    return convert_model(model, config)


@torch.no_grad()
def read(scorer, input_ids, chunk):
    return torch.cat([scorer(part) for part in input_ids.split(chunk, dim=1)], dim=1)


@every_method
@pytest.mark.parametrize("model_type", FAMILIES)
def test_any_chunk_size_gives_what_one_forward_gives(model_type, method):
    model, input_ids = make_model(model_type, method), tiny_input_ids(2, LENGTH)
    with torch.no_grad():
        whole = NllScorer(model)(input_ids)
    for chunk in CHUNKS:
        nll = read(StreamScorer(model), input_ids, chunk)
        assert nll.shape == (2, LENGTH - 1) and nll.dtype == torch.float32
        torch.testing.assert_close(nll, whole, rtol=0, atol=1e-5, msg=f"chunk {chunk}")


def test_a_table_of_positions_can_be_read_to_its_end():
    model, input_ids = tiny_model("gpt2"), tiny_input_ids(1, 64)
    with torch.no_grad():
        whole = NllScorer(model)(input_ids)
    torch.testing.assert_close(read(StreamScorer(model), input_ids, 7), whole, rtol=0, atol=1e-5)


def move_on(scorer, shift):
    """Have the stream stand `shift` positions, a multiple of the ring's size, farther on; for the rest as it is."""
    positions = scorer.model.base_model.lambda_conversion.modules[0].lambda_layer.positions
    for layer in scorer.cache.layers:
        assert shift % layer.config.local_branch == 0
        layer.seen, layer.columns = [seen + shift for seen in layer.seen], layer.columns + shift
        if isinstance(positions, RotaryPositions) and not layer.config.caps_window:
            rotate = half_split_rotary(positions.inv_freq, positions.interleaved)
            layer.keys = rotate(layer.keys.double(), shift).float()


def nll_here_and_farther_on(model, shift):
    """Of the tokens after the first 120, which leave every first token beyond the limit."""
    input_ids, chunks = tiny_input_ids(1, 200), (1, 1, 30, 1, 47)
    found = []
    for moved in (0, shift):
        scorer = StreamScorer(model)
        with torch.no_grad():
            scorer(input_ids[:, :120])
            move_on(scorer, moved)
            found.append(torch.cat([scorer(part) for part in input_ids[:, 120:].split(chunks, dim=1)], dim=1))
    return found


@capped_method
@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("shift", [2 * 10**8, 10**9])
def test_far_along_the_stream_the_nll_is_what_it_was_at_the_beginning(model_type, method, shift):
    here, there = nll_here_and_farther_on(make_model(model_type, method), shift)
    torch.testing.assert_close(there, here, rtol=0, atol=1e-5)


@capped_method
def test_float32_positions_would_be_noticed(method, monkeypatch):
    def rounded_table(self, positions):
        angles = positions.float().unsqueeze(-1) * self.inv_freq.float()
        return angles.cos() * self.scaling, angles.sin() * self.scaling

    monkeypatch.setattr(RotaryPositions, "table", rounded_table)
    here, there = nll_here_and_farther_on(make_model("llama", method), 2 * 10**8)
    assert (here - there).abs().max() > 1e-2


@every_method
@pytest.mark.parametrize("model_type", FAMILIES)
def test_goes_on_bit_for_bit_from_the_states_of_its_rows(model_type, method):
    model, input_ids = make_model(model_type, method), tiny_input_ids(2, LENGTH)
    begun = StreamScorer(model)
    read(begun, input_ids[:, :50], 20)
    states = [begun.state(row).wait() for row in (0, 1)]
    expected = read(begun, input_ids[:, 50:], 15)
    resumed = StreamScorer(model)
    resumed.restore(states, 50, CPU)
    assert torch.equal(read(resumed, input_ids[:, 50:], 15), expected)


@every_method
def test_rows_may_go_on_alone(method):
    model, input_ids = make_model(method=method), tiny_input_ids(2, LENGTH)
    begun = StreamScorer(model)
    read(begun, input_ids[:, :50], 20)
    state = begun.state(1).wait()
    expected = read(begun, input_ids[:, 50:], 15)[1:]
    alone = StreamScorer(model)
    alone.restore([state], 50, CPU)
    torch.testing.assert_close(read(alone, input_ids[1:, 50:], 15), expected, rtol=0, atol=1e-5)


def test_a_state_is_a_copy_of_one_row():
    scorer, input_ids = StreamScorer(make_model()), tiny_input_ids(2, LENGTH)
    read(scorer, input_ids[:, :50], 20)
    state = scorer.state(1).wait()
    before = {name: tensor.clone() for name, tensor in state.items()}
    read(scorer, input_ids[:, 50:], 20)
    assert all(len(tensor) == 1 and torch.equal(tensor, before[name]) for name, tensor in state.items())


def test_state_and_cache_are_as_large_after_the_tenth_chunk_as_after_the_first():
    scorer, input_ids, sizes = StreamScorer(make_model()), tiny_input_ids(1, 400), []
    for part in input_ids.split(40, dim=1):
        read(scorer, part, 40)
        sizes.append((cache_bytes(scorer.cache), sum(tensor.nbytes for tensor in scorer.state(0).wait().values())))
    assert len(sizes) == 10 and len(set(sizes)) == 1
    assert scorer.last_hidden.untyped_storage().nbytes() == scorer.state(0).wait()[LAST_HIDDEN].nbytes == 32 * 4


def test_reset_begins_new_streams():
    scorer, input_ids = StreamScorer(make_model()), tiny_input_ids(1, 50)
    first = read(scorer, input_ids, 20)
    scorer.reset()
    assert torch.equal(read(scorer, input_ids, 20), first)


@pytest.mark.parametrize("method, kept", [("vanilla", 1), ("middle", 1), ("limit at local", 0)])
def test_bytes_per_token_are_those_of_a_cache_that_keeps_all(method, kept):
    layers, key_heads, width = 2, 2, 8
    expected = kept * layers * 2 * key_heads * width * 4
    assert StreamScorer(make_model(method=method)).bytes_per_token(CPU) == expected


def test_asking_for_them_begins_new_streams():
    scorer = StreamScorer(make_model(method="vanilla"))
    read(scorer, tiny_input_ids(1, 30), 30)
    assert cache_bytes(scorer.cache) == 30 * scorer.bytes_per_token(CPU)
    assert read(scorer, tiny_input_ids(1, 5), 5).shape == (1, 4)


def test_the_base_model_and_the_head_are_one_module_call_each_per_chunk():
    model, calls = make_model(), []
    for name in ("base_model", "lm_head"):
        getattr(model, name).register_forward_pre_hook(lambda *_, name=name: calls.append(name))
    read(StreamScorer(model), tiny_input_ids(1, 30), 10)
    assert calls == ["base_model", "lm_head"] * 3
