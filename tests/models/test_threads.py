"""One converted model, called by several threads at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from models.assumptions import ATTENTION_MASK
from models.attention.config import LambdaConfig
from models.model_base import convert_model
from tests.tiny_models import tiny_input_ids, tiny_model

pytestmark = pytest.mark.core


@pytest.mark.parametrize("model_type", ["llama", "olmo3"])
def test_padded_batches_read_at_once_give_what_they_give_alone(model_type):
    model = convert_model(tiny_model(model_type, num_hidden_layers=2), LambdaConfig(8, 3, 8))

    def generate(padding: int) -> torch.Tensor:
        ids, mask = tiny_input_ids(2, 30, seed=padding), torch.ones(2, 30, dtype=torch.long)
        mask[0, :padding] = 0
        options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        return model.generate(ids, **{ATTENTION_MASK: mask}, **options)

    alone = [generate(padding) for padding in range(12)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(generate, [*range(12)] * 3))
    assert all(torch.equal(found, alone[place % 12]) for place, found in enumerate(together))
