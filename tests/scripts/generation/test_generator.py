"""What the flags ask of `generate`, and going on from a cache."""

import pytest
import torch
from transformers import DynamicCache

from models.attention.decode.cache_state import branch_cache
from models.llama import convert_llama_model
from scripts.generation.arguments import Generation
from scripts.generation.generator import Failure, Generator
from tests.tiny_models import tiny_input_ids, tiny_model, tiny_tokenizer
from utils.errors import UserError

pytestmark = pytest.mark.core

PROMPT = tiny_input_ids(2, 30)


def generator(model=None, length=12, **others):
    return Generator(model or tiny_model(), tiny_tokenizer(), Generation(length, **others), torch.device("cpu"))


@pytest.mark.parametrize("convert", [lambda model: model, lambda model: convert_llama_model(model, 8, 2)])
def test_a_cache_that_holds_a_beginning_changes_nothing_and_stays(convert):
    ours = generator(convert(tiny_model()))
    whole, cache = ours.generate(PROMPT), DynamicCache()
    for start, stop in ((0, 11), (11, 29)):
        assert ours.prefill(PROMPT[:, start:stop], cache) > 0
    for _ in range(2):
        assert ours.generate(PROMPT, branch_cache(cache)).texts == whole.texts
    assert cache.get_seq_length() == 29


def test_tokens_are_counted_up_to_the_end_of_the_sequence():
    model, common = tiny_model(), []
    model.generation_config.eos_token_id = None
    free = model.generate(PROMPT, max_new_tokens=12, do_sample=False, pad_token_id=0)[:, PROMPT.shape[1] :]
    common = free[0, 4].item()
    model.generation_config.eos_token_id = common
    found = generator(model).generate(PROMPT)
    places = [(row == common).nonzero().flatten().tolist() for row in free]
    assert found.tokens == [row[0] + 1 if row else 12 for row in places] and found.tokens[0] <= 5


def test_a_checkpoints_own_sampling_counts_only_where_asked():
    torch.manual_seed(0)
    model = tiny_model()
    greedy = generator(model).generate(PROMPT).texts
    model.generation_config.do_sample = True
    model.generation_config.temperature = 1e-4
    assert generator(model).generate(PROMPT).texts == greedy
    cold = generator(model, do_sample=True)
    assert cold.generate(PROMPT).texts == greedy, "a temperature near 0 is greedy"
    model.generation_config.temperature = 5.0
    assert generator(model, do_sample=True).generate(PROMPT).texts != greedy


def test_samples_are_those_of_their_seed_and_place():
    def sample(seed, *place):
        ours = generator(seed=seed, do_sample=True)
        ours.seed(*place)
        return ours.generate(PROMPT).texts

    assert sample(3, 0, 20) == sample(3, 0, 20)
    assert len({*map(tuple, (sample(3, 0, 20), sample(4, 0, 20), sample(3, 1, 20), sample(3, 0, 21)))}) == 4


def test_a_failure_says_why():
    def reason(error):
        with ours.attempt() as attempt:
            raise error
        return attempt.failure.reason

    ours = generator()
    with ours.attempt() as attempt:
        value = 3
    assert value == 3 and attempt.failure is None
    assert reason(torch.OutOfMemoryError("out of memory")) == "memory ran out"
    for words in ("DefaultCPUAllocator: can't allocate memory", "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"):
        assert reason(RuntimeError(words)) == "memory ran out"
    assert reason(ValueError("shapes\nof this and that")) == "ValueError (shapes)"
    with pytest.raises(KeyboardInterrupt):
        reason(KeyboardInterrupt())
    ours.synced = True
    with pytest.raises(ValueError, match="shapes"):
        reason(ValueError("shapes"))


def test_a_device_that_is_out_of_order_ends_the_run(monkeypatch):
    def broken(*_):
        raise RuntimeError("device-side assert")

    ours = generator()
    monkeypatch.setattr(ours, "_now", broken)
    with pytest.raises(RuntimeError, match="device-side assert"), ours.attempt():
        broken()


def test_fewest_tokens_where_the_sequence_would_end():
    model = tiny_model()
    free = model.generate(PROMPT, max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None)
    model.generation_config.eos_token_id = free[0, PROMPT.shape[1] + 2].item()
    assert generator(model).generate(PROMPT).tokens[0] <= 3
    for least in (7, 12):
        for cache in (None, DynamicCache()):
            ours = generator(model, min_new_tokens=least)
            if cache is not None:
                ours.prefill(PROMPT[:, :-1], cache)
            assert min(ours.generate(PROMPT, cache).tokens) >= least


def test_dynamic_scaling_follows_each_prompt_alone():
    def scaled():
        return generator(tiny_model(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}))

    ours, prompts = scaled(), [tiny_input_ids(1, length) for length in (200, 90, 64, 30)]
    assert [ours.generate(prompt).texts for prompt in prompts] == [
        scaled().generate(prompt).texts for prompt in prompts
    ]


def test_positions_that_run_out_are_an_examples_failure():
    model = tiny_model("gpt2", n_positions=40)
    fits, beyond = (generator(model, length=length) for length in (11, 12))
    assert fits.generate(PROMPT).tokens == [11, 11]
    with beyond.attempt() as generating:
        beyond.generate(PROMPT)
    with beyond.attempt() as reading:
        beyond.prefill(tiny_input_ids(1, 41), DynamicCache())
    assert generating.failure == reading.failure == Failure("the model's 40 positions ran out")


@pytest.mark.parametrize(
    "flags, words",
    [
        ({"suppress_tokens": [5, 265]}, "--suppress_tokens 265 is no token of the model: they are numbered 0 to 264"),
        ({"min_new_tokens": 13}, "--min_new_tokens 13 is more than --max_generation_length 12"),
    ],
)
def test_flags_that_the_model_cannot_honour(flags, words):
    with pytest.raises(UserError, match=words):
        generator(**flags)
