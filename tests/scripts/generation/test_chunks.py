"""Prompts beyond a chunk are read in chunks before `generate` goes on: the same tokens, in flat memory."""

import pytest
import torch
from transformers import DynamicCache

from models.attention.config import LambdaConfig
from models.model_base import convert_model, extend_vanilla_positions
from scripts.generation.arguments import Generation
from scripts.generation.generator import Generator
from scripts.generation.padding import pad_left
from scripts.generation.way import Way
from scripts.harness.prefill import Prefill
from tests.live_bytes import LiveBytes
from tests.tiny_models import tiny_input_ids, tiny_model, tiny_tokenizer

CONFIG = LambdaConfig(16, 4, 16)
PROMPTS = [tiny_input_ids(1, length, length)[0].tolist() for length in (90, 9, 61)]


def generator(model, chunk, new=10):
    way = Way(Prefill(chunk))
    return Generator(model, tiny_tokenizer(), Generation(new), torch.device("cpu"), way=way)


@pytest.mark.parametrize("chunk", [1, 7, 30, 89, 90])
@pytest.mark.parametrize("convert", [extend_vanilla_positions, lambda model: convert_model(model, CONFIG)])
@pytest.mark.parametrize("model_type", ["llama", "gptj", "mpt", "gpt_neox"])
def test_chunks_change_no_token(model_type, convert, chunk):
    model = convert(tiny_model(model_type))
    expected = [generator(model, None).generate(torch.tensor([ids])) for ids in PROMPTS]
    read = []
    hook = model.get_input_embeddings().register_forward_hook(lambda module, args, _: read.append(args[0].shape[1]))
    input_ids, mask = pad_left(PROMPTS)
    found = generator(model, chunk).generate(input_ids, attention_mask=mask)
    hook.remove()
    assert found.texts == [text for each in expected for text in each.texts]
    assert max(read) <= max(chunk, 1) and sum(read[: -9 or None]) == 90


def test_a_cache_that_holds_a_beginning_is_read_on_in_chunks():
    ours, whole = (generator(convert_model(tiny_model(), CONFIG), chunk) for chunk in (7, None))
    ids, cache = torch.tensor(PROMPTS[:1]), DynamicCache()
    ours.prefill(ids[:, :40], cache)
    ours.prefill(ids[:, 40:-1], cache)
    assert ours.generate(ids, cache).texts == whole.generate(ids).texts


def peak(chunk, length):
    ours = generator(convert_model(tiny_model(), CONFIG), chunk, new=2)
    with LiveBytes() as count:
        ours.generate(tiny_input_ids(1, length))
    return count.peak


def test_memory_does_not_grow_with_the_prompt():
    ids = 8 * (8192 - 2048)  # the tokens themselves are kept, and their mask
    assert peak(256, 8192) - peak(256, 2048) < 6 * ids
    assert peak(None, 8192) - peak(None, 2048) > 60 * ids
