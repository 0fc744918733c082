"""Padding: a row of a batch gives exactly what it gives alone."""

import pytest
import torch

from models.assumptions import cache_of, with_cache
from models.attention.positions import RotaryPositions
from models.lambda_attention import LambdaConfig, TopK
from models.model_base import convert_model
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core

LENGTH = 40
KEPT = {
    "left": [slice(0, None), slice(23, None), slice(37, None)],
    "right": [slice(0, None), slice(0, 17), slice(0, 3)],
    "both sides": [slice(0, None), slice(5, 30), slice(20, 21)],
}
IN_CACHE = LambdaConfig(8, 3, None, sink_positions="cache")
CONFIGS = [LambdaConfig(8, 3, 8), LambdaConfig(8, 3, 5, triangle_offset=0.5), LambdaConfig(8, 3, None), IN_CACHE]


def padded_batch(kept: list[slice]) -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = tiny_input_ids(len(kept), LENGTH), torch.zeros(len(kept), LENGTH, dtype=torch.int64)
    for row, columns in enumerate(kept):
        mask[row, columns] = 1
    return ids * mask, mask


@torch.no_grad()
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("model_type", ["llama", "mpt"])
@pytest.mark.parametrize("side", KEPT)
def test_each_row_is_as_alone(side, model_type, config):
    model = convert_model(tiny_model(model_type), config)
    ids, mask = padded_batch(KEPT[side])
    logits = model(ids, attention_mask=mask).logits
    for row, columns in enumerate(KEPT[side]):
        alone = model(ids[row : row + 1, columns]).logits[0]
        torch.testing.assert_close(logits[row, columns], alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("side", KEPT)
def test_padded_batches_in_chunks_are_as_whole(side):
    model = convert_model(tiny_model(), CONFIGS[0])
    ids, mask = padded_batch(KEPT[side])
    whole, cache, start = model(ids, attention_mask=mask).logits, None, 0
    for size in (6, 1, 1, 20, 12):
        stop = start + size
        output = model(ids[:, start:stop], attention_mask=mask[:, :stop], **with_cache(model, cache), use_cache=True)
        cache, real = cache_of(output), mask[:, start:stop].bool()
        torch.testing.assert_close(output.logits[real], whole[:, start:stop][real], rtol=1e-5, atol=1e-5)
        start = stop


@torch.no_grad()
def test_a_token_makes_its_tables_once_for_all_layers(monkeypatch):
    made, table = [], RotaryPositions.table
    model = convert_model(tiny_model(), LambdaConfig(8, 3, 5))
    ids, mask = padded_batch(KEPT["left"])
    cache = cache_of(model(ids, attention_mask=mask, use_cache=True))
    monkeypatch.setattr(RotaryPositions, "table", lambda self, at: made.append(at.shape) or table(self, at))
    model(ids[:, :1], **with_cache(model, cache))
    assert made == [(3, 10), (3, 1, 8)]  # of the 2 x 4 + 2 heads of the token in each row, and of the ring


@torch.no_grad()
def test_padding_in_the_middle_is_skipped():
    """Right-padded prompts that are continued."""
    model = convert_model(tiny_model(), CONFIGS[0])
    ids, mask = padded_batch([slice(0, None)])
    mask[0, 10:20] = 0
    logits = model(ids, attention_mask=mask).logits[mask.bool()]
    alone = model(ids[mask.bool()][None]).logits[0]
    torch.testing.assert_close(logits, alone, rtol=1e-5, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("model_type", ["llama", "gptj", "mpt", "gpt_neox"])
@pytest.mark.parametrize(
    ("config", "search", "chunking"),
    [
        (CONFIGS[0], {}, {}),
        (CONFIGS[0], {}, {"prefill_chunk_size": 7}),
        (CONFIGS[0], {"num_beams": 3}, {}),
        (LambdaConfig(8, 3, 8, top_k=TopK(2, 5, offload=True)), {}, {}),
        (IN_CACHE, {}, {}),
    ],
)
def test_generation_of_a_left_padded_batch_is_that_of_each_prompt(model_type, config, search, chunking):
    model = convert_model(tiny_model(model_type), config)
    ids, mask = padded_batch(KEPT["left"])
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0, "eos_token_id": None, **search}
    batch = model.generate(ids, attention_mask=mask, **chunking, **options)[:, LENGTH:]
    for row, columns in enumerate(KEPT["left"]):
        prompt = ids[row : row + 1, columns]
        assert batch[row].tolist() == model.generate(prompt, **options)[0, prompt.shape[1] :].tolist()
