"""Rotary angles and ALiBi slopes, where they are exact and where Transformers defines them."""

import pytest
import torch
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

from models.attention.config import LambdaConfig
from models.attention.positions import CACHED_BLOCKS, TABLE_BLOCK, RotaryPositions, alibi_slopes, rotary_from_config
from tests.tiny_models import tiny_model

ROPE_TYPES = {
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 4.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 64},
    "llama3": {
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "longrope": {
        "short_factor": [1.0, 1.5, 2.0, 2.5],
        "long_factor": [2.0, 3.0, 4.0, 5.0],
        "original_max_position_embeddings": 64,
        "factor": 4.0,
    },
}


def rotary() -> RotaryPositions:
    return RotaryPositions(1e5 ** -(torch.arange(0, 64, 2, dtype=torch.float64) / 64))


@pytest.mark.parametrize("start", [10**6, 2 * 10**8, 10**9])
def test_a_score_depends_on_the_distance_alone_at_any_position(start):
    positions, generator = rotary(), torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 100, 64, generator=generator)
    near = positions.at(query, 0) @ positions.at(key, 0).mT
    far = positions.at(query, start) @ positions.at(key, start).mT
    torch.testing.assert_close(far, near, rtol=0, atol=2e-5)


def test_tables_of_a_range_and_of_positions_agree():
    positions, x = rotary(), torch.randn(2, 3, 5, 64)
    torch.testing.assert_close(positions.at(x, 7), positions.rotate(x, positions.table(torch.arange(7, 12))))


def test_a_capped_query_scores_an_unrotated_key_as_at_that_distance():
    positions = rotary()
    query, key = torch.randn(2, 1, 64)
    expected = positions.at(query, 1000) @ positions.at(key, 1000 - 37).mT
    torch.testing.assert_close(positions.at_distance(query, 37) @ key.mT, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rope_type", ROPE_TYPES)
def test_rope_scaling_types_follow_the_configuration(rope_type):
    """cos and sin as Transformers' own module gives them, within the pre-training length."""
    parameters = {"rope_type": rope_type, "rope_theta": 1e4, **ROPE_TYPES[rope_type]}
    base = tiny_model("llama", rope_parameters=parameters).base_model
    positions = rotary_from_config(base.config, base.rotary_emb, limit_distance=64)
    cos, sin = base.rotary_emb(torch.zeros(1), torch.arange(64)[None])
    ours = positions.table(torch.arange(64))
    for own, theirs in zip(ours, (cos, sin)):
        torch.testing.assert_close(own, theirs[0, :, : own.shape[-1]], rtol=0, atol=1e-5)


def test_dynamic_scaling_is_that_of_the_limit_and_needs_one():
    parameters = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
    base = tiny_model("llama", rope_parameters=parameters).base_model
    longer = rotary_from_config(base.config, base.rotary_emb, limit_distance=256)
    base.rotary_emb(torch.zeros(1), torch.arange(256)[None])
    torch.testing.assert_close(longer.inv_freq.float(), base.rotary_emb.inv_freq)
    with pytest.raises(ValueError, match="limit_distance"):
        rotary_from_config(base.config, base.rotary_emb, limit_distance=None)


@pytest.mark.parametrize("start", [0, 7, 20])
def test_positions_stand_still_where_they_are_told_to(start):
    positions, x = rotary(), torch.randn(2, 3, 5, 64)
    still = torch.tensor([min(start + row, 9) for row in range(5)])
    torch.testing.assert_close(positions.at(x, start, latest=9), positions.rotate(x, positions.table(still)))


@pytest.mark.parametrize(
    ("config", "farthest"),
    [
        (LambdaConfig(8, 3, 20), 20),
        (LambdaConfig(8, 3, None), None),
        (LambdaConfig(8, 0, None), 8),
        (LambdaConfig(8, 3, None, sink_positions="cache"), 10),
    ],
)
def test_the_farthest_distance_felt_is_what_frequencies_are_taken_at(config, farthest):
    assert config.farthest == farthest


@pytest.mark.parametrize("heads", [1, 2, 6, 8, 12, 32])
def test_slopes_are_those_of_mpt(heads):
    per_token = build_mpt_alibi_tensor(heads, 2).diff(dim=-1).squeeze((1, 2))
    torch.testing.assert_close(alibi_slopes(heads), per_token)


def test_a_stream_keeps_only_the_tables_that_its_last_forward_used():
    positions = RotaryPositions(torch.ones(4, dtype=torch.float64))
    tables = positions._range_tables._tables
    for start in range(0, 50 * TABLE_BLOCK, TABLE_BLOCK):
        positions.begin_forward(1, TABLE_BLOCK + 5)
        positions.at(torch.zeros(1, 1, TABLE_BLOCK + 5, 8), start)
        positions.at_distance(torch.zeros(1, 1, 1, 8), 3)
        assert {0, start, start + TABLE_BLOCK} <= {first for first, *_ in tables}
        assert len(tables) <= 4


@pytest.fixture
def computed(monkeypatch) -> list[int]:
    """The first positions of what cosines were computed of, in turn."""
    starts, compute = [], RotaryPositions._compute_range_table

    def counted(self, start, count, device, places):
        starts.append(start)
        return compute(self, start, count, device, places)

    monkeypatch.setattr(RotaryPositions, "_compute_range_table", counted)
    return starts


@pytest.mark.parametrize("start", [0, 777, 10**8])
@pytest.mark.parametrize("limit", [4096, 10**6])
def test_all_layers_of_a_long_forward_share_one_table(start, limit, computed):
    """In segments, as a layer takes them; at 131,072 tokens there are twice as many blocks as are kept otherwise."""
    positions, length, segment = RotaryPositions(torch.ones(1, dtype=torch.float64)), 131_072, 8192
    positions.begin_forward(1, length)
    for _ in range(6):
        for first in range(start, start + length, segment):
            positions.at(torch.zeros(segment, 2), first)
            positions.at_distance(torch.zeros(1, 2), limit)
    assert len(computed) == len(set(computed)) > CACHED_BLOCKS


def test_rows_at_different_positions_share_one_table_among_layers(computed):
    positions, length = RotaryPositions(torch.ones(1, dtype=torch.float64)), 20_000
    positions.begin_forward(3, length)
    for _ in range(6):
        for start in (5, 10**6, 10**7):
            positions.at(torch.zeros(length, 2), start)
    assert len(computed) == len(set(computed)) > CACHED_BLOCKS - 2


def test_a_long_forward_leaves_no_room_behind(computed):
    positions = RotaryPositions(torch.ones(1, dtype=torch.float64))
    for length in (131_072, 10, 10):
        positions.begin_forward(1, length)
        positions.at(torch.zeros(length, 2), 0)
    assert len(positions._range_tables._tables) == 1
