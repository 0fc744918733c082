"""`generate` by captured steps gives the tokens of ordinary forwards, and captures once for many texts."""

from contextlib import nullcontext

import pytest
import torch
from transformers import DynamicCache

from models.assumptions import OUTPUT_CACHE
from models.attention.bands.config import BandsConfig
from models.attention.config import LambdaConfig, TopK
from models.attention.decode.cache import LambdaCache
from models.attention.decode.cache_state import branch_cache
from models.decode_graph import CapturedSteps
from models.model_base import convert_model
from tests.tape import taped_graphs
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

CONFIG = LambdaConfig(8, 3, 8)
FAMILIES = ["llama", "gptj", "mpt", "gpt_neox"]
NEW = 14
FREE = {"max_new_tokens": NEW, "pad_token_id": 0, "eos_token_id": None}
GREEDY = {**FREE, "do_sample": False}


def converted(model_type="llama", config=CONFIG):
    return convert_model(tiny_model(model_type), config)


@pytest.mark.parametrize("config", [CONFIG, LambdaConfig(8, 3, 5), LambdaConfig(8, 3, None)], ids=str)
@pytest.mark.parametrize("model_type", FAMILIES)
def test_texts_of_one_size_of_batch_share_one_capture(model_type, config, monkeypatch):
    model = converted(model_type, config)
    texts = [tiny_input_ids(2, length, seed) for seed, length in enumerate((30, 5, 17))]
    expected = [model.generate(ids, **GREEDY) for ids in texts]
    steps = CapturedSteps(model)
    with taped_graphs(monkeypatch) as tapes:
        for ids, text in zip(texts, expected):
            with steps:
                assert torch.equal(model.generate(ids, **GREEDY), text)
    assert [tape.replays for tape in tapes] == [3 * (NEW - 1)]
    assert steps.captures == 1 and steps.taken == 3 * (NEW - 1)


def test_a_batch_of_another_size_is_captured_anew(monkeypatch):
    model = converted()
    steps = CapturedSteps(model)
    with taped_graphs(monkeypatch) as tapes:
        for rows in (3, 1, 1, 3):
            ids = tiny_input_ids(rows, 20, rows)
            with steps:
                found = model.generate(ids, **GREEDY)
            assert torch.equal(found, model.generate(ids, **GREEDY))
    assert [tape.replays for tape in tapes] == [NEW - 1, 2 * (NEW - 1), NEW - 1] and steps.captures == 3


def test_padding_sampling_and_the_end_of_a_sequence_are_generates_own(monkeypatch):
    model, ids = converted(), tiny_input_ids(2, 20)
    mask = torch.ones_like(ids)
    mask[0, :9] = 0
    free = model.generate(ids, attention_mask=mask, **GREEDY)
    flags = [
        {"do_sample": False, "eos_token_id": free[0, 24].item()},
        {"do_sample": True, "temperature": 0.8, "top_p": 0.9},
        {"do_sample": False, "repetition_penalty": 1.7, "min_new_tokens": 5, "suppress_tokens": [free[0, 22].item()]},
    ]
    steps = CapturedSteps(model)
    with taped_graphs(monkeypatch) as tapes:
        for options in flags:
            found = []
            for decoding in (nullcontext(), steps):
                torch.manual_seed(3)
                with decoding:
                    found.append(model.generate(ids, attention_mask=mask, **{**FREE, **options}))
            assert torch.equal(*found), options
    assert len(tapes) == 1 and tapes[0].replays == steps.taken > NEW


def test_a_branch_is_gone_on_with_and_its_cache_stays(monkeypatch):
    model, ids = converted(), tiny_input_ids(1, 20)
    alone, cache = model.generate(ids, **GREEDY), DynamicCache()
    with torch.no_grad():
        model.base_model(input_ids=ids[:, :-1], **{OUTPUT_CACHE: cache}, use_cache=True)
    kept = [tensor.clone() for tensor in cache.layers[0].tensors().values()]
    steps = CapturedSteps(model)
    with taped_graphs(monkeypatch) as tapes:
        for _ in range(2):
            with steps:
                found = model.generate(ids, **{**GREEDY, OUTPUT_CACHE: branch_cache(cache, NEW)})
            assert torch.equal(found, alone)
    assert all(map(torch.equal, cache.layers[0].tensors().values(), kept)) and cache.get_seq_length() == 19
    assert tapes[0].replays == 2 * NEW  # the prompt's last token too


def test_while_first_tokens_are_missing_forwards_are_ordinary():
    model, ids = converted(config=LambdaConfig(8, 10, 8)), tiny_input_ids(1, 5)
    expected, steps = model.generate(ids, **GREEDY), CapturedSteps(model)
    with steps:
        assert torch.equal(model.generate(ids, **GREEDY), expected)
    assert steps.taken == NEW - 1 - 5


def test_a_prompt_of_one_column_that_is_padding_is_no_step():
    model, cache = converted(), LambdaCache(CONFIG, 2)
    steps = CapturedSteps(model)
    mask = torch.ones(2, 9, dtype=torch.int64)
    mask[1, -1] = 0
    with torch.no_grad(), steps:
        model(input_ids=tiny_input_ids(2, 8), **{OUTPUT_CACHE: cache})
        model(input_ids=tiny_input_ids(2, 1), attention_mask=mask, **{OUTPUT_CACHE: cache})
    assert steps.taken == 0 and cache.layers[0].seen == [9, 8]


@pytest.mark.parametrize("bound", [False, True], ids=["of its class", "bound by a hook"])
def test_the_models_forward_is_its_own_again(bound):
    model = converted()
    if bound:
        model.forward = model.forward
    before = model.__dict__.get("forward")
    with pytest.raises(KeyError), CapturedSteps(model):
        assert model.__dict__["forward"] is not before
        raise KeyError
    assert model.__dict__.get("forward") is before


def test_an_error_forgets_what_was_captured(monkeypatch):
    model, ids = converted(), tiny_input_ids(1, 20)
    steps = CapturedSteps(model)
    with taped_graphs(monkeypatch) as tapes:
        with steps:
            model.generate(ids, **GREEDY)
        with pytest.raises(KeyError), steps:
            raise KeyError
        with steps:
            model.generate(ids, **GREEDY)
    assert len(tapes) == steps.captures == 2


@pytest.mark.parametrize(
    "config", [None, LambdaConfig(8, 3, 8, top_k=TopK(2, 5)), LambdaConfig(8, 3, 8, 1.0), BandsConfig("dca")]
)
def test_what_has_no_static_step(config):
    model, ids = tiny_model() if config is None else converted(config=config), tiny_input_ids(1, 20)
    steps = CapturedSteps(model)
    if config is None:  # its cache is none that a step could read
        with steps:
            model.generate(ids, **GREEDY)
        assert steps.taken == 0
        return
    with pytest.raises(ValueError, match="middle"), steps:
        model.generate(ids, **GREEDY)
