"""A tokenizer's identity: all that decides which tokens a text becomes, so that those of another are told apart."""

import hashlib
import json
from typing import Any

import numpy as np
import tokenizers
import transformers
from transformers import PreTrainedTokenizerBase

SETTINGS_OF_A_CALL = ("truncation", "padding")
SMALL, LARGE = np.dtype("<u2"), np.dtype("<i4")


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any] | None:
    """The digest of a tokenizer's definition with the versions that carry it out; None where it is in Python code."""
    if not tokenizer.is_fast:
        return None
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    for setting in SETTINGS_OF_A_CALL:  # what the newest call has set, and the next one sets anew
        definition.pop(setting, None)
    return {
        "class": type(tokenizer).__name__,
        "sha256": hashlib.sha256(json.dumps(definition, sort_keys=True).encode()).hexdigest(),
        "split_special_tokens": bool(tokenizer.split_special_tokens),
        "tokenizers": tokenizers.__version__,
        "transformers": transformers.__version__,
    }


def id_type(tokenizer: PreTrainedTokenizerBase) -> np.dtype:
    """The smallest of two types that holds every id of a tokenizer."""
    return SMALL if max(tokenizer.get_vocab().values()) <= np.iinfo(SMALL).max else LARGE
