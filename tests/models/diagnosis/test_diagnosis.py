"""The statistics of attention against full matrices: the model's own ones, and those of the method's definition."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.attention.bands.config import BandsConfig
from models.attention.config import LambdaConfig
from models.diagnosis import measure
from models.diagnosis.diagnosed_model import DiagnosedModel
from models.diagnosis.layers import attention_layers, attention_modules
from models.diagnosis.measure import ProjectedText, measure_attention
from models.diagnosis.plan import Plan, even_edges, spread_positions
from models.errors import UserError
from models.model_base import FAMILIES, UnsupportedModelError, convert_model
from tests.dense_reference import dense_lambda_attention, half_split_rotary
from tests.models.attention.attention_cases import make_case
from tests.models.attention.bands.formulas import dense_scores
from tests.models.attention.bands.test_methods import CONFIGS
from tests.tiny_models import tiny_input_ids, tiny_model
from utils.trials.diagnosis_arrays import STATISTICS

LENGTH, FIRST, WINDOW, QUERIES = 50, 3, 12, 9
FAMILY_NAMES = ("llama", "gptj", "mpt", "gpt_neox", "bloom", "persimmon", "dbrx")
LAMBDAS = (
    LambdaConfig(8, 3, 8),
    LambdaConfig(8, 0, None),
    LambdaConfig(12, 2, 5),
    LambdaConfig(5, 20, 30),
    LambdaConfig(8, 3, 8, triangle_offset=0.7),
    LambdaConfig(8, 3, None, sink_positions="cache"),
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(measure, "KEY_BLOCK", 13)
    monkeypatch.setattr(measure, "QUERY_BLOCK", 8)


def plan(length=LENGTH, bins=10, positions=None, hidden=6):
    positions = np.arange(length) if positions is None else positions
    return Plan(QUERIES, even_edges(length, bins), positions, FIRST, WINDOW, hidden)


def dense_logits(query, key, layer):
    """float64 `[Hq, n, n]` from the definition, pair by pair; -inf where a key is not attended."""
    config, encoding = layer.config, layer.positions
    rotary = None if encoding.slopes is not None else half_split_rotary(encoding.inv_freq, encoding.interleaved)
    heads, length, _ = query.shape
    query, key = query.double(), key.double().repeat_interleave(heads // key.shape[0], 0)
    logits = torch.full((heads, length, length), -torch.inf, dtype=torch.float64)
    for i in range(length):
        middle = max(1, i + 1 - config.local_branch - config.global_branch)
        for j in range(i + 1):
            kept = j < config.global_branch or i - j < config.local_branch
            if not kept and not config.triangle_offset:
                continue
            limit = config.limit_distance
            felt = limit if limit is not None and (i - j > limit or not kept) else i - j
            if config.sink_positions == "cache" and i - j >= config.local_branch:
                felt = min(i, config.global_branch + config.local_branch - 1) - j
            turned = query[:, i] if rotary is None else rotary(query[:, i], felt)
            logits[:, i, j] = (turned * key[:, j]).sum(-1) * layer.scale
            if rotary is None:
                logits[:, i, j] -= encoding.slopes.double() * felt
            if not kept:
                logits[:, i, j] -= config.triangle_offset * np.log(middle)
    return logits


def dense_distances(logits, edges):
    """max, mean and bound per head and bin, pair by pair over the last queries."""
    length = logits.shape[-1]
    values = {}
    for i in range(length - QUERIES, length):
        for j in range(i + 1):
            if logits[0, i, j] > -torch.inf:
                values.setdefault(int(np.searchsorted(edges, i - j, side="right")) - 1, []).append(logits[:, i, j])
    stacked = {place: torch.stack(found) for place, found in values.items()}
    result = {name: np.full((len(logits), len(edges) - 1), np.nan) for name in ("max", "mean", "bound")}
    bound = np.full(len(logits), -np.inf)
    for place in range(max(stacked) + 1):
        if place in stacked:
            result["max"][:, place], result["mean"][:, place] = stacked[place].amax(0), stacked[place].mean(0)
            bound = np.maximum(bound, result["max"][:, place])
        result["bound"][:, place] = bound
    return result


def dense_attention(weights):
    """entropy and shares, `[heads, n]`, from full attention matrices `[heads, n, n]`."""
    query, key = np.indices(weights.shape[1:])
    first = (key < FIRST)[None]
    near = (query - key < WINDOW)[None] & ~first
    return {
        "entropy": torch.special.entr(weights.double()).sum(-1).numpy(),
        "mass_first": (weights.numpy() * first).sum(-1),
        "mass_window": (weights.numpy() * near).sum(-1),
        "mass_middle": (weights.numpy() * ~(first | near)).sum(-1),
        "attended": (weights[0] > 0).sum(-1).numpy(),
    }


def assert_measured(found, logits, weights, edges, atol=2e-5):
    expected = dense_attention(weights)
    expected |= {f"logit_{name}": values for name, values in dense_distances(logits, edges).items()}
    assert expected.keys() == {*STATISTICS, "attended"}
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=0, atol=atol, err_msg=name)


@torch.no_grad()
@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_vanilla_statistics_are_those_of_the_models_own_matrices(model_type):
    model, input_ids = tiny_model(model_type), tiny_input_ids(1, LENGTH)
    (measurement,) = DiagnosedModel(model, plan(), [0, 1])(input_ids, [LENGTH])
    model.set_attn_implementation("eager")
    with torch.no_grad():
        outputs = model(input_ids, output_attentions=True, output_hidden_states=True)
    for index, (module, layer) in enumerate(zip(attention_modules(model), attention_layers(model, LENGTH))):
        hidden = hidden_states_into(module, model, input_ids)
        query, key, _ = (x.detach() for x in FAMILIES[model_type].project(module, hidden))
        logits = dense_logits(query[0], key[0], layer)
        weights = outputs.attentions[index][0]
        torch.testing.assert_close(logits.softmax(-1).float(), weights, rtol=0, atol=1e-5)
        assert_measured(measurement.attention[index], logits, weights, plan().distance_edges)
    states = outputs.hidden_states
    np.testing.assert_allclose(measurement.hidden[0], states[1][0, :6], rtol=0, atol=1e-5)
    np.testing.assert_allclose(final_norm(model)(torch.from_numpy(measurement.hidden[1])), states[2][0, :6], atol=1e-5)


def final_norm(model):
    base = model.base_model
    names = ("norm", "ln_f", "norm_f", "final_layer_norm", "final_layernorm")
    return next(norm for name in names if (norm := getattr(base, name, None)))


def hidden_states_into(module, model, input_ids):
    seen = []

    def look(module, args, kwargs):
        seen.append(args[0] if args else kwargs["hidden_states"])

    handle = module.register_forward_pre_hook(look, with_kwargs=True)
    with torch.no_grad():
        model(input_ids)
    handle.remove()
    return seen[0]


class _Given:
    """A text whose queries and keys are given."""

    def __init__(self, case):
        self.case, self.hidden = case, torch.empty(1, case.query.shape[2], 1)

    def query(self, columns):
        return self.case.query[0, :, columns]

    def key(self, columns):
        return self.case.key[0, :, columns]


@pytest.mark.parametrize("encoding", ["rotary", "interleaved", "alibi"])
@pytest.mark.parametrize("config", LAMBDAS, ids=str)
def test_lambda_statistics_are_those_of_the_definition(config, encoding):
    case = make_case(config, LENGTH, encoding, key_heads=2, group=2)
    found = measure_attention(_Given(case), case.layer, plan())
    query, key, value = (x[0] for x in (case.query, case.key, case.value))
    logits = dense_logits(query, key, case.layer)
    weights = logits.softmax(-1)
    rotary = None if encoding == "alibi" else half_split_rotary(case.layer.positions.inv_freq, encoding != "rotary")
    output = dense_lambda_attention(query, key, value, config, rotary, case.layer.positions.slopes, case.layer.scale)
    torch.testing.assert_close(weights @ value.double().repeat_interleave(2, 0), output)
    assert_measured(found, logits, weights, plan().distance_edges)


@pytest.mark.parametrize("encoding", ["rotary", "interleaved"])
@pytest.mark.parametrize("config", [*CONFIGS, BandsConfig("rerope", window=9, log_scale=20)], ids=str)
def test_so_are_those_of_methods_over_all_tokens(config, encoding):
    case = make_case(config, LENGTH, encoding, key_heads=2, group=2)
    positions = case.layer.positions
    arguments = (config, positions.inv_freq, encoding == "interleaved", case.layer.scale)
    logits = dense_scores(case.query[0], case.key[0], *arguments)
    found = measure_attention(_Given(case), case.layer, plan())
    assert_measured(found, logits, logits.softmax(-1), plan().distance_edges)


@pytest.mark.parametrize("model_type", FAMILY_NAMES)
def test_a_converted_model_below_its_window_is_as_the_vanilla_one(model_type):
    model, input_ids = tiny_model(model_type), tiny_input_ids(1, LENGTH)
    (vanilla,) = DiagnosedModel(model, plan(), [1])(input_ids, [LENGTH])
    convert_model(model, LambdaConfig(64, 4, 64))
    (converted,) = DiagnosedModel(model, plan(), [1])(input_ids, [LENGTH])
    for name, values in vanilla.arrays().items():
        np.testing.assert_allclose(converted.arrays()[name], values, rtol=0, atol=5e-5, err_msg=name)


def test_a_converted_model_feels_no_distance_beyond_its_limit():
    model, input_ids = tiny_model("llama"), tiny_input_ids(1, LENGTH)
    convert_model(model, LambdaConfig(8, 3, 8))
    (measurement,) = DiagnosedModel(model, plan(bins=LENGTH), [0])(input_ids, [LENGTH])
    found = measurement.attention[0]
    assert np.isnan(found["logit_max"][:, 10:38]).all() and np.isfinite(found["logit_max"][:, 49]).all()
    np.testing.assert_array_equal(found["attended"], np.minimum(np.arange(LENGTH) + 1, 11))


@pytest.mark.parametrize("at_once", [False, True])
def test_a_batch_gives_what_its_texts_give_alone(at_once):
    model, input_ids = tiny_model("llama"), tiny_input_ids(2, LENGTH)
    together = DiagnosedModel(model, plan(), [0, 1], at_once)(input_ids, [LENGTH, 20])
    alone = [
        DiagnosedModel(model, plan(), [0, 1])(input_ids[row : row + 1, :n], [n])[0] for row, n in enumerate((50, 20))
    ]
    for both, single in zip(together, alone):
        for name, values in single.arrays().items():
            np.testing.assert_allclose(both.arrays()[name], values, rtol=0, atol=2e-5, err_msg=name)


def test_where_a_text_is_too_short_there_is_no_number():
    model = tiny_model("llama")
    (measurement,) = DiagnosedModel(model, plan(positions=np.array([4, 19, 20, 49])), [0])(tiny_input_ids(1, 20), [20])
    found = measurement.attention[0]
    assert np.isnan(found["entropy"][:, 2:]).all() and np.isfinite(found["entropy"][:, :2]).all()
    assert found["attended"].tolist() == [5, 20, 0, 0]
    assert np.isnan(found["logit_bound"][:, 4:]).all() and np.isfinite(found["logit_bound"][:, :4]).all()


@pytest.mark.parametrize(
    ("model_type", "overrides", "attended"),
    [
        ("mistral", {"sliding_window": 8}, [8, 8]),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}, [50, 8]),
        ("qwen2", {"use_sliding_window": False, "sliding_window": 8}, [50, 50]),
        ("llama", {"sliding_window": 8}, [50, 50]),
    ],
)
def test_a_models_own_sliding_window_is_heeded(model_type, overrides, attended):
    model, input_ids = tiny_model(model_type, **overrides), tiny_input_ids(1, LENGTH)
    (measurement,) = DiagnosedModel(model, plan(), [0, 1])(input_ids, [LENGTH])
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(input_ids, output_attentions=True).attentions
    for index, expected in enumerate(attended):
        found, dense = measurement.attention[index], dense_attention(weights[index][0])
        assert found["attended"][-1] == dense["attended"][-1] == expected
        np.testing.assert_allclose(found["entropy"], dense["entropy"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("rope", ["dynamic", "longrope", "yarn"])
def test_frequencies_that_depend_on_the_length_are_those_of_this_text(rope):
    scaling = {"rope_type": rope, "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
    if rope == "longrope":
        scaling |= {"short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 5.0]}
    model = tiny_model("llama", rope_parameters=scaling, max_position_embeddings=16)
    input_ids = tiny_input_ids(1, LENGTH)
    (measurement,) = DiagnosedModel(model, plan(), [0])(input_ids, [LENGTH])
    model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = model(input_ids, output_attentions=True).attentions[0][0]
    np.testing.assert_allclose(
        measurement.attention[0]["entropy"], dense_attention(weights)["entropy"], rtol=0, atol=2e-5
    )


def test_large_logits_neither_overflow_nor_lose_the_entropy():
    case = make_case(LambdaConfig(LENGTH, 0, None), LENGTH)
    case.query.mul_(300)
    found = measure_attention(_Given(case), case.layer, plan())
    weights = dense_logits(case.query[0], case.key[0], case.layer).softmax(-1)
    np.testing.assert_allclose(found["entropy"], dense_attention(weights)["entropy"], rtol=0, atol=1e-3)


class _LargestTensor(TorchDispatchMode):
    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numel = max(self.numel, result.numel())
        return result


@pytest.mark.parametrize("config", [LambdaConfig(10**6, 0, None), LambdaConfig(64, 4, 64)], ids=["vanilla", "lambda"])
def test_no_tensor_grows_with_the_length(config, monkeypatch):
    monkeypatch.undo()
    layer = make_case(config, 1).layer

    def project(hidden):
        return (hidden.unflatten(-1, (2, 8)).transpose(1, 2),) * 3

    largest = {}
    for length in (8192, 32768):
        hidden = torch.randn(1, length, 16, generator=torch.Generator().manual_seed(0))
        few = Plan(16, even_edges(length, 64), spread_positions(length, 16), FIRST, 64, 6)
        with _LargestTensor() as mode:
            measure_attention(ProjectedText(project, hidden), layer, few)
        largest[length] = mode.numel
    assert largest[32768] <= 1.1 * largest[8192] < 2**20


def test_an_unknown_attention_is_refused_by_name():
    with pytest.raises(UnsupportedModelError, match="gpt2"):
        attention_modules(tiny_model("gpt2"))


@pytest.mark.parametrize("model_type", ["gemma2", "granite_swa", "ministral3"])
def test_scores_that_are_more_than_products_are_refused(model_type):
    with pytest.raises(UserError, match=f"a diagnosis of {model_type}"):
        attention_layers(tiny_model(model_type), 20)


def test_positions_and_bins_cover_a_text_of_any_length():
    for length in (2, 3, 17, 16384):
        positions, edges = spread_positions(length, 8), even_edges(length, 8)
        assert positions[0] == 0 and positions[-1] == length - 1 and (np.diff(positions) > 0).all()
        assert edges[0] == 0 and edges[-1] == length and (np.diff(edges) > 0).all()
    assert {2047, 4095, 8191} <= set(spread_positions(16384, 8).tolist())
