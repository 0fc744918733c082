"""The assumptions about Transformers: every name of it that a release could change without an error.

`tests/models/test_assumptions.py` checks each for every supported `model_type`, and fails first, in plain words, when a
release changes one. What a family's own modules are called stands in its `Family` record and is checked there too.
"""

import inspect
import logging
from collections.abc import Mapping
from functools import cache as remember
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig
from transformers import __version__ as VERSION
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast

from .errors import VersionError

logger = logging.getLogger(__name__)

OLDEST, BEYOND = "5.17", "5.25"
"""The releases of Transformers that the numbers are known to be right with: OLDEST <= version < BEYOND."""
OLDEST_TORCH = "2.11"

CACHE_NAMES = ("cache", "past_key_values")
"""The names of a cache in a model's forward. 5.24 renamed it, and takes the older name as an alias until 5.40."""
LAYER_CACHE_NAMES = (*CACHE_NAMES, "layer_past")
"""The names under which a decoder layer hands it to its attention module."""
STATE_CACHE_NAMES = (*CACHE_NAMES, "cache_params")
"""The names under which it hands it to a recurrent module."""
OUTPUT_CACHE = next(name for name in CACHE_NAMES if name in BaseModelOutputWithPast.__dataclass_fields__)
"""The cache's name in outputs and in the arguments of `generate`, in this release."""

ATTENTION_MASK, ROTARY, ROPE, WRAPPED_FORWARD = "attention_mask", "rotary_emb", "rope_parameters", "_old_forward"
ROTARIES = "rotary_embs"
"""A base model's mask argument, which goes to the layers as it is where it has four dimensions; its module of rotary
embeddings, or the list of them where bases differ by layer; a configuration's rotary parameters; the forward that
Accelerate's device hooks wrap."""
NORM, NORM_EPSILON = "RMSNorm", "variance_epsilon"
"""The end of the name of a class that normalises by the root of the mean square, and its epsilon's name there."""
MORE_OUTPUTS = ("output_attentions", "output_hidden_states", "labels")
"""Arguments of a causal LM's forward that ask for more than logits."""
PREPARE = "prepare_inputs_for_generation"
"""A causal LM's method that `generate` calls before each of its forwards."""
POSITION_IDS = "position_ids"
"""A base model's argument of its new tokens' positions; one without it counts columns."""
LOGITS_TO_KEEP = "logits_to_keep"
"""A causal LM's argument of how many of the last tokens the head reads; one without it gives the logits of all."""
TOKEN_TYPES, PADDING = "token_type_ids", "padding"
"""The argument that says which tokens are an image's; a name that no mask of Transformers has, which hands such a mask
to the text model as it is."""
CRITERIA, PREDEFINED_LENGTH = "_get_stopping_criteria", "max_position_embeddings"
"""A causal LM's method that `generate` takes its ends from, and an end's length beyond which it warns."""
BATCHING = "init_continuous_batching"
"""A causal LM's method that every way into continuous batching begins with."""
PEFT_CONFIG = "active_peft_config"
"""A PeftModel's attribute: the configuration of its method."""

ROPE_TYPE = "rope_type"
"""Of rotary parameters, and of a module of rotary embeddings: "default", "dynamic", ..."""
ATTENDS, CARRIES_STATE = "full_attention", ("linear_attention", "conv")
"""The kinds of layers of models that also have recurrent ones, which take a mask for each kind."""
IN_PROJECTION = "in_proj"
"""The beginning of the names of a recurrent module's projections of its input."""
LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""A configuration's pre-training length, by family."""
LAYER_TYPES, SLIDING, WINDOW = "layer_types", "sliding_attention", "sliding_window"
"""A configuration's list of each layer's kind of attention, the kind that has a window, and the window's size."""
WINDOWED = frozenset(
    {
        *("afmoe", "cohere2", "cohere2_moe", "cwm", "dots1", "exaone4", "exaone_moe", "gemma2", "gemma3_text"),
        "gemma4_text",
        *("gpt_oss", "granite_swa", "granitemoe_swa", "mimo_v2_flash", "ministral", "ministral3", "mistral"),
        *("beam", "flint", "kolibri1", "laguna", "mellum", "vaultgemma"),
        *("mixtral", "olmo3", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "smollm3", "starcoder2"),
    }
)
"""Model types whose own attention heeds WINDOW: in the layers that LAYER_TYPES says, but for these, in all of them."""
WINDOWED_THROUGHOUT = frozenset({"ministral3", "mistral", "mixtral", "phi3", "phimoe", "qwen3_moe", "starcoder2"})
CHUNKED, CHUNK = "chunked_attention", "attention_chunk_size"
"""The kind of layer that attends within chunks of the text, and how many tokens one has."""
POSITION_TABLES, TABLE_OFFSET = ("wpe", "embed_positions", "position_embeddings", "embed_position"), "offset"
"""Names of embeddings of learned positions, and their attribute that counts rows in front of position 0."""
LOGIT_SCALE, LOGITS_SCALING, LOGIT_CAP = "logit_scale", "logits_scaling", "final_logit_softcapping"
"""A configuration's changes to logits behind the head."""
HEAD_WIDTH, EXPERTS_OF_A_TOKEN = "head_dim", "num_experts_per_tok"
"""A configuration's width of a head, where it is not the hidden size by heads; and how many experts read a token."""
EVERY_EXPERT = {"llama4_text": "num_local_experts"}
"""Types of which every expert reads every token, whatever is routed, and the field of how many there are."""

UNUSED_BY_ATTENTION = frozenset(
    {
        "attention_mask",  # read before the base model, where padding is told from real tokens
        "position_ids",  # counted by the cache
        "position_embeddings",  # computed in float64 by models/attention/positions.py
        "position_bias",  # ALiBi's, as MPT hands it on
        "alibi",  # likewise Bloom and Falcon
        "shared_kv_states",  # Gemma 4's, of layers that attend to keys of others: models that have some are refused
        "attention_scaling",  # Beam's factor on queries, of positions that the cache counts
        "use_cache",
        "output_attentions",  # refused before the base model
        "output_hidden_states",
        "output_router_logits",
        LOGITS_TO_KEEP,  # the head's
        "return_dict",
        "num_items_in_batch",  # the loss's
    }
)
"""Arguments of attention modules besides hidden states and cache. Anything else could change what attention means."""

CACHE_METHODS = (
    "get_seq_length",
    "get_mask_sizes",
    "reorder_cache",
    "batch_repeat_interleave",
    "batch_select_indices",
    "crop",
    "reset",
)
"""Methods that Transformers, `generate` above all, calls on a cache: `Cache` defines each and asks its layers."""


def supported_range() -> str:
    return f"Transformers {OLDEST} and newer, below {BEYOND}"


def check_version() -> None:
    """Raise VersionError for a Transformers or torch that is too old; say once that a newer one is not known."""
    release = _release(VERSION)
    if release < _release(OLDEST):
        raise VersionError(f"Λ-attention needs {supported_range()}, and this is {VERSION}")
    if release >= _release(BEYOND):
        _say_unknown_version()
    if _release(torch.__version__) < _release(OLDEST_TORCH):
        raise VersionError(f"Λ-attention needs torch {OLDEST_TORCH} or newer, and this is {torch.__version__}")


@remember
def _say_unknown_version() -> None:
    logger.warning(
        "Transformers %s is newer than what Λ-attention is tested with (%s): an argument that it does not know, or a "
        "cache that stays behind, is an error",
        VERSION,
        supported_range(),
    )


def _release(version: str) -> tuple[int, int]:
    """(major, minor)."""
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


@remember
def _names_of_forward(kind: type[nn.Module]) -> tuple[str, ...]:
    return tuple(inspect.signature(kind.forward).parameters)[1:]


def unused_modules(base: nn.Module) -> list[nn.Module]:
    """The modules of a base model that compute positions, which no converted attention module reads."""
    listed = list(getattr(base, ROTARIES, ()))
    return [module for name, module in base.named_children() if name == ROTARY] + listed


def forward_names(module: nn.Module) -> tuple[str, ...]:
    """The arguments of a module's class's forward, in their order, without self."""
    return _names_of_forward(type(module))


def cache_name(model: nn.Module) -> str:
    """The name of the cache in the forward of a causal LM or base model. Raises TypeError where it is not known."""
    for name in CACHE_NAMES:
        if name in forward_names(model):
            return name
    raise TypeError(
        f"the forward of {type(model).__name__} in Transformers {VERSION} takes its cache under none "
        f"of the names {', '.join(CACHE_NAMES)}; supported are {supported_range()}"
    )


def with_cache(model: nn.Module, cache: Cache | None) -> dict[str, Cache | None]:
    """The keyword argument that hands `cache` to the forward of a causal LM or base model."""
    return {cache_name(model): cache}


def find_cache(inputs: Mapping[str, Any], names: tuple[str, ...] = CACHE_NAMES) -> Cache | None:
    """The cache among keyword arguments, whichever of `names` it has. Raises ValueError for two different ones."""
    found = [(name, inputs[name]) for name in names if inputs.get(name) is not None]
    if any(cache is not found[0][1] for _, cache in found):
        raise ValueError(f"two caches were given, {' and '.join(name for name, _ in found)}: give one")
    return found[0][1] if found else None


def cache_of(output: Mapping[str, Any]) -> Cache | None:
    """The cache in a model's output, whatever this release calls it."""
    return output.get(OUTPUT_CACHE)


def attention_cache(inputs: Mapping[str, Any], who: str) -> Cache | None:
    """The cache among what attention module `who` is given besides hidden states, in one pass for each of many layers.

    Raises TypeError for an input that Λ-attention does not know, and ValueError for two caches.
    """
    cache = None
    for name, value in inputs.items():
        if value is None or name in UNUSED_BY_ATTENTION:
            continue
        if name not in LAYER_CACHE_NAMES:
            raise unknown_argument(name, who)
        if cache is not None and value is not cache:
            find_cache(inputs, LAYER_CACHE_NAMES)  # which says that these are two
        cache = value
    return cache


def refuse_unknown(inputs: Mapping[str, Any], known: frozenset[str], who: str) -> None:
    """Raise TypeError for an argument of `who` that is none of `known` and not None: it could change the result."""
    for name, value in inputs.items():
        if value is not None and name not in known:
            raise unknown_argument(name, who)


def unknown_argument(name: str, who: str) -> TypeError:
    return TypeError(
        f"{who} is given {name!r}, which Λ-attention does not know: leave it out, or if Transformers "
        f"{VERSION} hands it over by itself, take one that is supported ({supported_range()})"
    )


def handed_over_otherwise(module: nn.Module) -> str:
    """The end of a sentence that says why a cache did not reach an attention module."""
    return (
        f"Transformers {VERSION} hands the cache to the attention of {type(module).__name__} in another way; supported "
        f"are {supported_range()}"
    )


def layer_type(config: PretrainedConfig, layer: int) -> str | None:
    """The kind of a layer; None where the configuration lists none."""
    kinds = getattr(config, LAYER_TYPES, None)
    return kinds[layer] if kinds else None


def kind_masks(attention: Tensor, padding: Tensor | None) -> dict[str, Tensor | None]:
    """The mask argument of a model with recurrent layers. padding: `[B, n]`, zero at padding; None where is none."""
    return {ATTENDS: attention, **dict.fromkeys(CARRIES_STATE, padding)}


def own_window(config: PretrainedConfig, layer: int) -> int | None:
    """Tokens that the unmodified model attends to in a layer, the newest included; None for all."""
    if config.model_type not in WINDOWED:
        return None
    if config.model_type not in WINDOWED_THROUGHOUT and _stated(config, LAYER_TYPES)[layer] != SLIDING:
        return None
    return _stated(config, WINDOW) or None


def own_chunk(config: PretrainedConfig, layer: int) -> int | None:
    """Tokens of the chunks that the unmodified model attends within in a layer; None where it does not."""
    return _stated(config, CHUNK) if layer_type(config, layer) == CHUNKED else None


def _stated(config: PretrainedConfig, name: str) -> Any:
    """A field of a configuration. Raises TypeError where it has none: a window would be left out without a sound."""
    if not hasattr(config, name):
        raise TypeError(
            f"the configuration of {config.model_type} in Transformers {VERSION} has no {name}; supported are "
            f"{supported_range()}"
        )
    return getattr(config, name)


def has_alibi(config: PretrainedConfig) -> bool:
    """Whether a model's positions are linear biases, and not rotary."""
    return config.model_type in ("bloom", "mpt") or bool(getattr(config, "alibi", False))


def rope_parameters(config: PretrainedConfig) -> dict[str, Any]:
    """A configuration's rotary parameters; empty where it has none. By kind of layer in some families."""
    return getattr(config, ROPE, None) or {}
