"""The identity of a model, for a trial's config.json: enough to tell two trials of different models apart."""

import hashlib
import json
from typing import Any

from transformers import PretrainedConfig, PreTrainedModel

from ..converting.wrappers import text_config
from ..model_base import pretraining_length

# Differ between two loads of the same model without changing what it computes.
VOLATILE_FIELDS = ("_name_or_path", "transformers_version")


def model_identity(name: str, tokenizer: str, model: PreTrainedModel) -> dict[str, Any]:
    """Identify an unconverted model; `name` and `tokenizer` as the user typed them. Every value fits into JSON."""
    config = model.config
    return {
        "name": name,
        "model_type": config.model_type,
        "pretraining_length": pretraining_length(config),
        "parameters": _parameter_count(model),
        "dtype": str(model.dtype).removeprefix("torch."),
        "config_sha256": _digest(config),
        "tokenizer": tokenizer,
        "vocab_size": text_config(config).vocab_size,
    }


def _parameter_count(model: PreTrainedModel) -> int:
    """Whole parameters, also where ZeRO-3 keeps only a rank's share or 4-bit weights share a byte."""
    sharded = [parameter for parameter in model.parameters() if hasattr(parameter, "ds_numel")]
    elsewhere = sum(parameter.ds_numel - parameter.numel() for parameter in sharded)
    return model.num_parameters() + elsewhere


def _digest(config: PretrainedConfig) -> str:
    """SHA-256 of the configuration, in hexadecimal."""
    fields = {key: value for key, value in config.to_dict().items() if key not in VOLATILE_FIELDS}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()
