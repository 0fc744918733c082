"""constant_model: its perplexity is known in advance, and so is what it says."""

import math

import pytest
import torch

from models.constant import ConstantModel
from models.scoring.nll_scorer import NllScorer
from tests.tiny_models import VOCAB_SIZE, tiny_input_ids, tiny_tokenizer

TOKENIZER = tiny_tokenizer()


def test_without_an_answer_every_token_is_equally_likely():
    model = ConstantModel.from_tokenizer(TOKENIZER)
    logits = model(tiny_input_ids(batch=2, length=7)).logits
    expected = torch.full((2, 7, VOCAB_SIZE), -math.log(VOCAB_SIZE))
    torch.testing.assert_close(logits.log_softmax(-1), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_perplexity_is_the_vocabulary_size(dtype):
    scorer = NllScorer(ConstantModel.from_tokenizer(TOKENIZER).to(dtype))
    nll = scorer(tiny_input_ids(batch=2, length=9))
    assert nll.shape == (2, 8)
    torch.testing.assert_close(nll.exp(), torch.full((2, 8), float(VOCAB_SIZE)), rtol=1e-4, atol=0)


def test_with_an_answer_half_of_the_probability_goes_to_its_tokens():
    model = ConstantModel.from_tokenizer(TOKENIZER, "aab")
    a, b = TOKENIZER("ab")["input_ids"]
    probabilities = model(torch.tensor([[a]])).logits[0, 0].softmax(-1)
    floor = 0.5 / VOCAB_SIZE
    torch.testing.assert_close(probabilities.sum(), torch.tensor(1.0))
    torch.testing.assert_close(probabilities[a], torch.tensor(floor + 0.5 * 2 / 3))
    torch.testing.assert_close(probabilities[b], torch.tensor(floor + 0.5 / 3))
    torch.testing.assert_close(probabilities.min(), torch.tensor(floor))


def test_generate_appends_the_answer_and_the_end_to_every_prompt():
    model = ConstantModel.from_tokenizer(TOKENIZER, "the answer")
    prompts = tiny_input_ids(batch=3, length=5)
    output = model.generate(input_ids=prompts, attention_mask=torch.ones_like(prompts), do_sample=False)
    assert torch.equal(output[:, :5], prompts)
    assert TOKENIZER.batch_decode(output[:, 5:]) == ["the answer</s>"] * 3


@pytest.mark.parametrize(("limit", "expected"), [(1, "x"), (2, "xy"), (3, "xy</s>"), (9, "xy</s>")])
def test_generate_stops_after_max_new_tokens(limit, expected):
    model = ConstantModel.from_tokenizer(TOKENIZER, "xy")
    output = model.generate(tiny_input_ids(batch=1, length=4), max_new_tokens=limit)
    assert TOKENIZER.decode(output[0, 4:]) == expected


def test_without_an_answer_it_only_ends():
    output = ConstantModel.from_tokenizer(TOKENIZER).generate(tiny_input_ids(batch=1, length=4))
    assert output[0, 4:].tolist() == [TOKENIZER.eos_token_id]
