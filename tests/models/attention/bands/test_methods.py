"""Each method's bands against its paper's formula, position by position, and against its published code restated."""

import pytest
import torch

from models.attention.bands.config import BandsConfig
from models.lambda_attention import LambdaConfig
from tests.models.attention.bands.formulas import distances_of, felt_distance

CONFIGS = [
    BandsConfig("self_extend", window=8, group=4),
    BandsConfig("self_extend", window=7, group=3),
    BandsConfig("self_extend", window=1, group=1),
    BandsConfig("dca", chunk=12, window=4),
    BandsConfig("dca", chunk=5, window=5),
    BandsConfig("dca", chunk=2, window=1),
    BandsConfig("rerope", window=9, log_scale=0),
    BandsConfig("rerope", window=1, log_scale=0),
    BandsConfig("leaky_rerope", window=6, factor=3.0, log_scale=0),
    BandsConfig("leaky_rerope", window=6, factor=2.5, log_scale=0),
]


@pytest.mark.parametrize("length", [1, 5, 9, 40, 63])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_every_earlier_key_is_in_one_band_at_the_distance_of_the_formula(config, length):
    felt = distances_of(config, length)
    for i in range(length):
        for j in range(length):
            if j > i:
                assert felt[i, j].isnan(), (i, j)
            else:
                assert felt[i, j] == pytest.approx(float(felt_distance(i, j, config)), abs=1e-12), (i, j)


@pytest.mark.parametrize("limit", [None, 2, 5, 9, 100])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_lambda_is_a_list_of_bands(limit, offset):
    config = LambdaConfig(5, 3, limit, triangle_offset=offset if limit else 0.0)
    felt = distances_of(config, 30)
    for i in range(30):
        for j in range(30):
            if j > i or (i - j >= 5 and j >= 3 and not config.triangle_offset):
                assert felt[i, j].isnan(), (i, j)
            elif i - j >= 5 and j >= 3:
                assert felt[i, j] == limit, (i, j)
            else:
                assert felt[i, j] == min(i - j, limit or i), (i, j)


def published_self_extend(length: int, group_size: int, neighbours: int) -> torch.Tensor:
    """Relative positions of `self_extend_patch/Llama.py` of github.com/datamllab/LongLM, for a whole sequence."""
    position = torch.arange(length)
    shift = 0 if int(position.max()) < neighbours else neighbours
    query = position // group_size + shift - shift / group_size
    grouped = query[:, None] - position // group_size
    near = torch.ones(length, length).tril()
    if length > neighbours:
        near[neighbours:, :-neighbours] -= torch.ones(length - neighbours, length - neighbours).tril()
    felt = torch.where(near.bool(), (position[:, None] - position).double(), grouped.double())
    return felt.masked_fill(position > position[:, None], torch.nan)


def published_dca(length: int, chunk_size: int, local_window: int) -> torch.Tensor:
    """Relative positions of `chunkllama_attn_replace.py` of github.com/HKUNLP/ChunkLlama, chunk by chunk."""
    chunk_len = chunk_size - local_window
    q = torch.arange(chunk_len)
    qc = (q + chunk_len).clamp(max=chunk_size)
    k = torch.arange(length) % chunk_len
    felt = torch.full((length, length), torch.nan, dtype=torch.float64)
    for begin in range(0, length, chunk_len):
        end = min(begin + chunk_len, length)
        place = torch.arange(begin, end) % chunk_len
        intra = (q[place][:, None] - k[begin:end]).double()
        felt[begin:end, begin:end] = intra.masked_fill(torch.ones_like(intra).tril() == 0, torch.nan)
        if begin:
            felt[begin:end, begin - chunk_len : begin] = (qc[place][:, None] - k[begin - chunk_len : begin]).double()
        felt[begin:end, : max(0, begin - chunk_len)] = (qc[chunk_len - 1] - k[: max(0, begin - chunk_len)]).double()
    return felt


def published_leaky_rerope(length: int, window: int, scaling_factor: float) -> torch.Tensor:
    """Relative positions of `leaky_rerope_patch.py` of github.com/bojone/rerope."""
    position = torch.arange(length)
    offset = window * (scaling_factor - 1)
    distance = (position[:, None] - position).double()
    slow = (position + offset)[:, None] / scaling_factor - position / scaling_factor
    return torch.where(distance < window, distance, slow).masked_fill(distance < 0, torch.nan)


def published_rerope(length: int, window: int) -> torch.Tensor:
    """Relative positions of `rerope_patch.py` there: one product with positions, one with the window for all pairs."""
    position = torch.arange(length)
    distance = (position[:, None] - position).double()
    far = torch.full_like(distance, window)
    return torch.where(distance < window, distance, far).masked_fill(distance < 0, torch.nan)


@pytest.mark.parametrize("length", [6, 16, 50])
def test_published_code_has_the_same_relative_positions(length):
    pairs = [
        (published_self_extend(length, 4, 8), BandsConfig("self_extend", window=8, group=4)),
        (published_dca(length, 12, 4), BandsConfig("dca", chunk=8, window=5)),
        (published_rerope(length, 6), BandsConfig("rerope", window=6, log_scale=0)),
        (published_leaky_rerope(length, 6, 4.0), BandsConfig("leaky_rerope", window=6, factor=4.0, log_scale=0)),
    ]
    for published, config in pairs:
        felt = distances_of(config, length)
        torch.testing.assert_close(felt, published, rtol=0, atol=1e-12, equal_nan=True, msg=str(config))


def test_what_is_left_open_is_as_in_the_published_code():
    """Of Llama 2: 8 groups and 1,024 neighbours; chunks of 3,072 less 256; a window of 512, and 16."""
    assert BandsConfig("self_extend").of_length(4096) == BandsConfig("self_extend", window=1024, group=8)
    dca = BandsConfig("dca").of_length(4096)
    assert (dca.chunk, dca.window, dca.farthest) == (3072 - 256, 257, 3072)
    assert BandsConfig("rerope").of_length(4096) == BandsConfig("rerope", window=512, log_scale=4096)
    leaky = BandsConfig("leaky_rerope", log_scale=0).of_length(4096)
    assert leaky == BandsConfig("leaky_rerope", window=512, factor=16.0, log_scale=0)
    with pytest.raises(ValueError, match="no pre-training length, by which remap_window would be chosen"):
        BandsConfig("rerope", log_scale=0).of_length(None)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"method": "yarn"}, "remap_positions must be one of self_extend, dca, rerope, leaky_rerope"),
        ({"method": "rerope", "group": 3}, "remap_group is no parameter of rerope, which has remap_window"),
        ({"method": "rerope", "window": 0}, "remap_window must be at least 1"),
        ({"method": "leaky_rerope", "factor": 0.5}, "remap_factor must be at least 1"),
        ({"method": "rerope", "log_scale": 1}, "remap_log_scale must be more than 1"),
        ({"method": "dca", "chunk": 4, "window": 5}, "remap_window 5 is more than remap_chunk 4"),
    ],
)
def test_impossible_parameters_are_refused_by_name(arguments, named):
    with pytest.raises(ValueError, match=named):
        BandsConfig(**arguments)
