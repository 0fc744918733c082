"""Tiny random models that read images as well as text."""

import pytest
import torch
import transformers
from transformers import AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING, CONFIG_MAPPING_NAMES

from models.converting.wrappers import SEEING
from tests.tiny_models import CONFIGS, IDS, randomise

_VISION = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2},
    **{"image_size": 16, "patch_size": 8, "depth": 1, "num_heads": 2, "out_hidden_size": 32},
}


def _parameter(model_type: str):
    reason = f"Transformers {transformers.__version__} is older than {model_type}"
    return pytest.param(model_type, marks=pytest.mark.skipif(model_type not in CONFIG_MAPPING_NAMES, reason=reason))


EVERY_SEEING_TYPE = pytest.mark.parametrize("model_type", [_parameter(name) for name in sorted(SEEING)])


def seeing_config(model_type: str, text_type: str | None = None, **changes) -> PretrainedConfig:
    """text_type: the type of its text model, by default what the type brings. changes: fields of the text model's."""
    kind = CONFIG_MAPPING[model_type]
    whole = kind()
    vision, text_type = whole.vision_config, text_type or whole.get_text_config().model_type
    text = {**IDS, **CONFIGS[text_type], "model_type": text_type, **changes}
    fields = {name: value for name, value in _VISION.items() if hasattr(vision, name)}
    return kind(text_config=text, vision_config={**fields, "model_type": vision.model_type})


def seeing_model(model_type: str, text_type: str | None = None, **changes) -> PreTrainedModel:
    """In eval mode, float32, fixed; arguments as for the configuration."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForImageTextToText.from_config(seeing_config(model_type, text_type, **changes))
        with torch.no_grad():
            for parameter in model.base_model.get_decoder().parameters():
                randomise(parameter)
    return model.eval()
