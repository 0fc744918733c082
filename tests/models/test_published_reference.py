"""What the paper's published code computes, on two tiny random models (limit_distance = local_branch)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from models.lambda_attention import LambdaConfig
from models.model_base import convert_model

pytestmark = pytest.mark.core

REFERENCE = Path(__file__).parents[1] / "reference"


@pytest.mark.parametrize(("name", "model_type"), [("llama", "llama"), ("gptj", "gptj")])
def test_logits_are_those_of_the_published_code(name, model_type):
    with np.load(REFERENCE / f"{name}_pub.npz", allow_pickle=False) as vectors:
        vectors = dict(vectors)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **json.loads(str(vectors["config"]))))
    weights = {key[2:]: torch.tensor(value) for key, value in vectors.items() if key.startswith("w:")}
    model.load_state_dict(weights, strict=True)
    ids, local = torch.tensor(vectors["input_ids"])[None], int(vectors["local_branch"])
    with torch.no_grad():
        vanilla = model.eval()(ids[:, : len(vectors["logits_vanilla_prefix"])]).logits[0].numpy()
        convert_model(model, LambdaConfig(local, int(vectors["global_branch"]), local))
        converted = model(ids).logits[0].numpy()
    for ours, published in ((vanilla, "logits_vanilla_prefix"), (converted, "logits_lambda")):
        expected = vectors[published]
        assert np.abs(ours - expected).max() <= 1e-6 * np.abs(expected).max()
