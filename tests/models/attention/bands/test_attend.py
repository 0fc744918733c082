"""The bands' attention against the dense formulas: whole, in chunks and decoded, padded, and in flat memory."""

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from models.assumptions import with_cache
from models.attention import positions
from models.attention.bands import attend, products
from models.attention.bands.config import BandsConfig
from models.attention.decode.cache import LambdaCache, new_layer
from models.attention.positions import NoPositions, RotaryPositions
from models.attention.prefill import blockwise
from models.attention.prefill.choice import Choice
from models.attention.ragged import RealTokens, attend_batch
from models.errors import SharedError
from models.lambda_attention import AttentionLayer, LambdaConfig, lambda_attention
from models.model_base import convert_model
from tests.live_bytes import LiveBytes
from tests.models.attention.attention_cases import Case, make_case
from tests.models.attention.bands.formulas import dense_attention
from tests.models.attention.bands.test_methods import CONFIGS
from tests.tiny_models import tiny_input_ids, tiny_model

LENGTH = 61
LOGS = BandsConfig("rerope", window=9, log_scale=20)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and tiles far smaller than the tests' sequences, and dividing none of them."""
    monkeypatch.setattr(attend, "QUERY_BLOCK", 7)
    monkeypatch.setattr(attend, "KEY_TILE", 5)
    monkeypatch.setattr(blockwise, "QUERY_BLOCK", 7)
    monkeypatch.setattr(products, "KEY_TILE", 5)
    monkeypatch.setattr(products, "QUERIES_AT_ONCE", 21)


def expected(case: Case) -> Tensor:
    layer, encoding = case.layer, case.layer.positions
    inv_freq = encoding.inv_freq if isinstance(encoding, RotaryPositions) else torch.zeros(3)
    arguments = (layer.config, inv_freq, getattr(encoding, "interleaved", False), layer.scale)
    rows = zip(case.query, case.key, case.value)
    return torch.stack([dense_attention(*row, *arguments, layer.soft_cap, layer.sink_logit) for row in rows])


def in_chunks(case: Case, sizes: list[int]) -> Tensor:
    past, cuts, start = new_layer(case.layer.config), [], 0
    for size in itertools.cycle(sizes):
        if start >= case.query.shape[2]:
            break
        cuts.append(slice(start, start + size))
        start += size
    return torch.cat([case.attend(columns, past) for columns in cuts], 2)


both_backends = pytest.mark.parametrize("backend", ["auto", "blockwise"])
"""Of so few queries `auto` is torch's fused attention."""


@both_backends
@pytest.mark.parametrize("encoding", ["rotary", "interleaved", "none"])
@pytest.mark.parametrize("config", [*CONFIGS, LOGS], ids=str)
def test_equals_the_formula_whole_and_in_chunks_and_decoded(config, encoding, backend):
    config = dataclasses.replace(config, backend=backend)
    case = make_case(config, LENGTH, encoding, batch=2, key_heads=2, group=3)
    for result in (case.attend(), in_chunks(case, [17, 1, 1, 6])):
        torch.testing.assert_close(result.double(), expected(case), rtol=0, atol=2e-6)


@both_backends
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_real_blocks_and_tiles_are_as_small_ones(config, backend, monkeypatch):
    case = make_case(dataclasses.replace(config, backend=backend), 200, key_heads=2, group=2)
    small = case.attend()
    monkeypatch.undo()
    torch.testing.assert_close(case.attend(), small, rtol=0, atol=2e-6)


@both_backends
@pytest.mark.parametrize("learned_sink", [False, True])
@pytest.mark.parametrize("soft_cap", [None, 0.5])
@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[3], LOGS], ids=str)
def test_soft_caps_and_learned_sinks(config, soft_cap, learned_sink, backend):
    config = dataclasses.replace(config, backend=backend)
    case = make_case(config, LENGTH, key_heads=2, group=2, soft_cap=soft_cap, learned_sink=learned_sink)
    for result in (case.attend(), in_chunks(case, [20, 1])):
        torch.testing.assert_close(result.double(), expected(case), rtol=0, atol=2e-6)


@both_backends
@pytest.mark.parametrize("scaling", [1.0, 1.3])
@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[6]], ids=str)
def test_values_of_another_width_and_a_scaled_rotation(config, scaling, backend):
    """A factor on cosine and sine counts twice, also where a key is as projected."""
    case = make_case(dataclasses.replace(config, backend=backend), LENGTH, key_heads=2, group=2)
    layer = dataclasses.replace(case.layer, positions=dataclasses.replace(case.layer.positions, scaling=scaling))
    case = dataclasses.replace(case, value=case.value[..., :5], layer=layer)
    grown = torch.ones(8)
    grown[:6] = scaling**2  # the features that are turned
    plain = dataclasses.replace(case, query=case.query * grown, layer=layer)
    torch.testing.assert_close(case.attend().double(), expected(plain), rtol=0, atol=2e-6)


@both_backends
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 4e-2), (torch.float16, 5e-3), (torch.float64, 2e-7)])
def test_every_dtype(dtype, tolerance, backend):
    case = make_case(
        dataclasses.replace(CONFIGS[0], backend=backend), LENGTH, batch=2, key_heads=2, group=2, dtype=dtype
    )
    for result in (case.attend(), in_chunks(case, [11, 1])):
        assert result.dtype == dtype
        torch.testing.assert_close(result.double(), expected(case), rtol=0, atol=tolerance)


@pytest.mark.parametrize("factor", [60.0, -60.0])
@pytest.mark.parametrize("encoding", ["rotary", "alibi"])
def test_scores_of_hundreds_of_nats(factor, encoding):
    case = make_case(LambdaConfig(8, 3, 8, triangle_offset=0.7), 40, encoding, batch=2, key_heads=2)
    case = dataclasses.replace(case, query=factor * case.query)
    torch.testing.assert_close(case.attend().double(), case.expected(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("limit", [None, 3, 8, 12])
@pytest.mark.parametrize("encoding", ["rotary", "alibi", "none"])
def test_lambda_by_its_bands_is_lambda(limit, encoding):
    """What the core of the window computes, by the other core."""
    case = make_case(LambdaConfig(8, 3, limit), LENGTH, encoding, batch=2, key_heads=2, group=2)
    by_bands = attend.attend_bands(case.query, case.key, case.value, case.layer, None)
    torch.testing.assert_close(by_bands, case.attend(), rtol=0, atol=2e-6)


@both_backends
@pytest.mark.parametrize("config", [CONFIGS[0], CONFIGS[3], CONFIGS[6]], ids=str)
def test_working_memory_is_flat(config, backend):
    """It grows with what the bands have of queries and keys, and never with their pairs."""
    peaks = []
    for length in (100, 200, 300):
        case = make_case(dataclasses.replace(config, backend=backend), length)
        with LiveBytes() as count:
            case.attend()
        peaks.append(count.peak)
    grown = [after - before for before, after in itertools.pairwise(peaks)]
    assert max(grown) < 20 * 100 * case.query.shape[-1] * case.query.element_size(), peaks


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_padded_rows_give_what_each_gives_alone(config):
    case, lengths, longest = make_case(config, 30, batch=3, key_heads=2, group=2), [30, 22, 9], 30
    mask = torch.tensor([[0] * (longest - count) + [1] * count for count in lengths])
    past, found = new_layer(config), []
    for columns in (slice(0, 26), slice(26, 27), slice(27, 28), slice(28, 30)):
        query, key, value = (x[:, :, columns] for x in (case.query, case.key, case.value))
        found.append(attend_batch(query, key, value, case.layer, past, RealTokens.from_mask(mask[:, columns])))
    found = torch.cat(found, 2)
    for row, count in enumerate(lengths):
        own = [x[row : row + 1, :, longest - count :] for x in (case.query, case.key, case.value)]
        alone = lambda_attention(*own, case.layer)
        torch.testing.assert_close(found[row : row + 1, :, longest - count :], alone, rtol=0, atol=2e-6)
        assert not found[row, :, : longest - count].any()


def test_a_window_over_all_of_the_text_is_full_attention():
    full = make_case(LambdaConfig(100, 0, None), LENGTH, key_heads=2, group=2)
    for config in (
        BandsConfig("self_extend", window=100, group=4),
        BandsConfig("dca", chunk=100, window=4),
        BandsConfig("rerope", window=100, log_scale=0),
        BandsConfig("leaky_rerope", window=100, factor=4.0, log_scale=0),
    ):
        case = dataclasses.replace(full, layer=dataclasses.replace(full.layer, config=config))
        torch.testing.assert_close(case.attend(), full.attend(), rtol=0, atol=2e-6)


def test_nearly_all_of_a_long_text_goes_to_the_fused_kernel(monkeypatch):
    """Masked products are of where a band begins, and do not grow with the length."""
    monkeypatch.setattr(attend, "QUERY_BLOCK", 64)
    monkeypatch.setattr(attend, "KEY_TILE", 128)
    products = []
    attend_products = attend.attend_products

    def counted(tile, *arguments, **options):
        products.append(tile.query.shape[2] * tile.key.shape[2])
        return attend_products(tile, *arguments, **options)

    monkeypatch.setattr(attend, "attend_products", counted)
    for config in (
        BandsConfig("self_extend", window=250, group=8, backend="edges"),
        BandsConfig("rerope", window=250, log_scale=0, backend="edges"),
    ):
        for length in (512, 2000):
            make_case(config, length).attend()
        assert products and products[: len(products) // 2] == products[len(products) // 2 :]
        products.clear()
    for length in (512, 2000):
        make_case(BandsConfig("dca", chunk=150, window=9, backend="edges"), length).attend()
    assert not products


def attended_anew(case: Case, monkeypatch) -> list[int]:
    """The queries of the blocks that products are not attended by."""
    anew = []

    class Counted(attend._Block):
        def attend(self) -> Tensor:
            anew.append(self.size)
            return super().attend()

    monkeypatch.setattr(attend, "_Block", Counted)
    case.attend()
    return anew


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_by_products_each_block_is_attended_to_once(config, monkeypatch):
    case = make_case(dataclasses.replace(config, backend="blockwise"), LENGTH, key_heads=2, group=2)
    assert not attended_anew(case, monkeypatch)


@pytest.mark.parametrize("factor", [60.0, -60.0])
def test_heads_whose_weights_leave_the_range_are_attended_to_anew(factor, monkeypatch):
    """Of which a query that all its keys repel has none but vanishing ones."""
    config = dataclasses.replace(CONFIGS[3], backend="blockwise")
    case = make_case(config, LENGTH, key_heads=2, group=2)
    key = case.key.abs()
    query = torch.cat([case.query[:, :2], factor * key[:, 1:].expand(-1, 2, -1, -1)], 1)
    case = dataclasses.replace(case, query=query, key=key)
    torch.testing.assert_close(case.attend().double(), expected(case), rtol=0, atol=1e-3)
    assert 0 < sum(attended_anew(case, monkeypatch)) <= LENGTH


def test_bounds_that_go_along_only_some_of_the_way_are_no_span(monkeypatch):
    """Where the first tokens end within a block; the numbers are the same."""
    case = make_case(LambdaConfig(8, 3, 12, backend="blockwise"), LENGTH, key_heads=2, group=2)
    by_bands = attend.attend_bands(case.query, case.key, case.value, case.layer, None)
    torch.testing.assert_close(by_bands, case.attend(), rtol=0, atol=2e-6)
    spans = [products.span_of(band, start, 7) for band in case.layer.config.bands for start in range(0, LENGTH, 7)]
    assert spans.count(None) == 1


@pytest.mark.parametrize("fastest", ["blockwise", "edges"])
def test_on_the_cpu_the_faster_one_is_taken(fastest, monkeypatch):
    asked, attended = [], []
    monkeypatch.setattr(
        products, "faster_on_cpu", lambda *given: asked.append((given[0], given[1].config)) or Choice(fastest, "so")
    )
    attend_pieces = attend.attend_pieces
    monkeypatch.setattr(attend, "attend_pieces", lambda pieces: attended.append(len(pieces)) or attend_pieces(pieces))
    make_case(CONFIGS[0], products.SHORTEST_MEASURED - 1).attend()
    assert not asked
    make_case(CONFIGS[0], products.SHORTEST_MEASURED).attend()
    assert asked == [(("blockwise", "edges"), products.WINDOW_MEASURED)]
    assert bool(attended) == (fastest == "blockwise")


def test_a_backend_by_its_name_that_cannot_is_refused():
    config = dataclasses.replace(CONFIGS[0], backend="edges")
    past = new_layer(config)
    with pytest.raises(SharedError, match="--backend edges needs scores that are not capped softly: take blockwise"):
        make_case(config, 5, soft_cap=0.5).attend(past=past)
    assert not past.is_initialized  # it has read nothing


@pytest.mark.parametrize("default", [torch.bfloat16, torch.float64])
def test_sums_are_float32_whatever_torch_takes_by_default(default):
    case = make_case(dataclasses.replace(CONFIGS[0], backend="blockwise"), LENGTH, key_heads=2, group=2)
    expected = case.attend()
    torch.set_default_dtype(default)
    try:
        assert torch.equal(case.attend(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_alibi_is_refused_where_the_method_moves_rotary_positions():
    with pytest.raises(ValueError, match="self_extend moves rotary positions, and this model has ALiBi's biases"):
        make_case(CONFIGS[0], 5, "alibi")


def test_no_positions_at_all_feel_no_method():
    case = make_case(CONFIGS[0], LENGTH, "none")
    layer = AttentionLayer(LambdaConfig(100, 0, None), NoPositions(), case.layer.scale)
    plain = lambda_attention(case.query, case.key, case.value, layer)
    torch.testing.assert_close(case.attend(), plain, rtol=0, atol=2e-6)


@pytest.mark.parametrize("backend", ["edges", "blockwise"])
def test_layers_and_chunks_and_steps_share_tables(backend, monkeypatch):
    """However long the text is: a layer goes through all its keys before the next one does."""
    monkeypatch.undo()
    computed, compute = [], RotaryPositions._compute_range_table

    def counted(self, start, count, device, places):
        computed.append((start, places))
        return compute(self, start, count, device, places)

    monkeypatch.setattr(RotaryPositions, "_compute_range_table", counted)
    monkeypatch.setattr(positions, "TABLE_BLOCK", 64)
    monkeypatch.setattr(positions, "CACHED_BLOCKS", 2)
    model = convert_model(tiny_model(), BandsConfig("self_extend", window=100, group=4, backend=backend))
    ids, cache = tiny_input_ids(1, 2000), LambdaCache(model.base_model.lambda_conversion.config, 2)
    with torch.no_grad():
        for part in ids.split([700, 700, 600], dim=1):
            model(part, **with_cache(model, cache))
            assert len(computed) == len(set(computed))
        computed.clear()
        for part in tiny_input_ids(1, 3).split(1, dim=1):
            model(part, **with_cache(model, cache))
    assert not computed
