"""Tiny random models and a tiny tokenizer, built from nothing: no network, no files, the same for every run.

Every model has 2 layers, hidden size 32, 4 heads of 8 and (where the family has them) 2 key heads.
All parameters are random, biases and norms too: an implementation that forgets one fails its parity test.
"""

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

SPECIAL_TOKENS = ["<pad>", "<s>", "</s>"]
MERGES = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("a", "n"), ("an", "d"), ("Ġ", "and")]
VOCAB_SIZE = len(SPECIAL_TOKENS) + 256 + len(MERGES)
PRETRAINING_LENGTH = 64

IDS = {"vocab_size": VOCAB_SIZE, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": PRETRAINING_LENGTH,
}
_GROUPED = {**_SIZES, "num_key_value_heads": 2}
_GPT_SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": PRETRAINING_LENGTH}
_MPT_SIZES = {
    "d_model": 32,
    "n_layers": 2,
    "n_heads": 4,
    "expansion_ratio": 2,
    "max_seq_len": PRETRAINING_LENGTH,
}
_HALF_ROTARY = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
_LLAMA3_ROTARY = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
_EXPERTS = {**_GROUPED, "num_experts_per_tok": 2, "num_experts": 4, "moe_intermediate_size": 16}

_ROUTED = {"n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1}
_MIXED_LAYERS = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4096}
_BY_KIND = {
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e3},
    "full_attention": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
}
_CAPPED = {"query_pre_attn_scalar": 4, "attn_logit_softcapping": 2.0}
_YARN_ROTARY = {
    "rope_type": "yarn",
    "rope_theta": 1e4,
    "factor": 4.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "original_max_position_embeddings": 16,
}
_HEADS_OF_8 = {**_GROUPED, "head_dim": 8}

_DELTA_NET = {
    **_HEADS_OF_8,
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "num_hidden_layers": 3,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "rope_parameters": {**_HALF_ROTARY, "mrope_section": [1, 1, 0]},
}
_DELTA_EXPERTS = {**_DELTA_NET, "num_experts_per_tok": 2, "num_experts": 4, "moe_intermediate_size": 16}
_DELTA_EXPERTS["shared_expert_intermediate_size"] = 16
_MAMBA = {
    **_GROUPED,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 2,
    "mamba_d_state": 8,
    "mamba_chunk_size": 16,
    "mamba_expand": 2,
}
_HYBRIDS = {
    "qwen3_next": {**_DELTA_EXPERTS, "rope_parameters": _HALF_ROTARY},
    "qwen3_5_text": _DELTA_NET,
    "qwen3_5_moe_text": _DELTA_EXPERTS,
    "lfm2": {**_GROUPED, "num_hidden_layers": 3, "layer_types": ["conv", "full_attention", "conv"]},
    "lfm2_moe": {
        **_EXPERTS,
        "num_hidden_layers": 3,
        "layer_types": ["conv", "full_attention", "conv"],
        "num_dense_layers": 1,
    },
    "bamba": {**_MAMBA, "num_hidden_layers": 3, "attn_layer_indices": [1], "rope_parameters": _HALF_ROTARY},
    "granitemoehybrid": {
        **_MAMBA,
        "num_hidden_layers": 3,
        "layer_types": ["mamba", "attention", "mamba"],
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 16,
        "attention_multiplier": 0.25,
        "position_embedding_type": "rope",
    },
    "nemotron_h": {
        **_HEADS_OF_8,
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "mlp", "attention", "mamba"],
        "mamba_num_heads": 4,
        "mamba_head_dim": 16,
        "n_groups": 2,
        "ssm_state_size": 8,
        "chunk_size": 16,
        "time_step_min": 1e-12,  # Transformers bounds time steps by it in its scan, and not in its single steps
    },
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 64, "key_multiplier": 0.5, "attention_in_multiplier": 0.5},
    "jamba": {
        **_GROUPED,
        "num_hidden_layers": 3,
        "attn_layer_period": 3,
        "attn_layer_offset": 1,
        "num_experts": 4,
        "mamba_d_state": 8,
        "mamba_dt_rank": 4,
    },
    "olmo_hybrid": {**_DELTA_NET, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
}

CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": None},
    "ministral": {**_GROUPED, "head_dim": 8, "sliding_window": 4096},
    "mixtral": {**_GROUPED, "num_local_experts": 4},
    "qwen2": _GROUPED,
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 16},
    "qwen3": {**_GROUPED, "head_dim": 8},
    "qwen3_moe": {**_EXPERTS, "head_dim": 8},
    "smollm3": {**_GROUPED, "no_rope_layers": [1, 0]},
    "cohere2": {**_GROUPED, **_MIXED_LAYERS},
    "cohere2_moe": {**_EXPERTS, **_MIXED_LAYERS, "num_shared_experts": 1, "first_k_dense_replace": 1},
    "exaone4": {**_GROUPED, **_MIXED_LAYERS},
    "exaone_moe": {**_EXPERTS, **_MIXED_LAYERS, "num_shared_experts": 1, "n_group": 1, "topk_group": 1},
    "olmo3": {**_GROUPED, **_MIXED_LAYERS, "rope_parameters": _BY_KIND},
    "gemma3_text": {**_HEADS_OF_8, **_MIXED_LAYERS, "query_pre_attn_scalar": 4, "rope_parameters": _BY_KIND},
    "granite": {**_GROUPED, "attention_multiplier": 0.25, "residual_multiplier": 0.5},
    "olmo": _GROUPED,
    "olmo2": _GROUPED,
    "gemma": {**_GROUPED, "head_dim": 8},
    "phi3": _GROUPED,
    "starcoder2": {**_GROUPED, "sliding_window": None},
    "stablelm": {**_GROUPED, "rope_parameters": _HALF_ROTARY},
    "arcee": _GROUPED,
    "apertus": {**_GROUPED, "head_dim": 8},
    "granitemoe": {
        **_GROUPED,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "attention_multiplier": 0.25,
    },
    "hyperclovax": {**_GROUPED, "attention_multiplier": 0.25},
    "nemotron": {**_GROUPED, "rope_parameters": _HALF_ROTARY},
    "seed_oss": {**_GROUPED, "head_dim": 8},
    "ernie4_5": {**_GROUPED, "head_dim": 8},
    "glm": {**_GROUPED, "head_dim": 8, "rope_parameters": _HALF_ROTARY},
    "glm4": {**_GROUPED, "head_dim": 8, "rope_parameters": _HALF_ROTARY},
    "helium": {**_GROUPED, "head_dim": 8},
    "gpt_oss": {
        **_HEADS_OF_8,
        **_MIXED_LAYERS,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "rope_parameters": _YARN_ROTARY,
    },
    "mimo_v2_flash": {
        **_EXPERTS,
        **_MIXED_LAYERS,
        "head_dim": 8,
        "v_head_dim": 6,
        "n_routed_experts": 4,
        "num_key_value_heads": 1,
        "rope_parameters": {kind: {**rope, "partial_rotary_factor": 0.5} for kind, rope in _BY_KIND.items()},
    },
    "gemma2": {**_HEADS_OF_8, **_MIXED_LAYERS, **_CAPPED},
    "gemma4_text": {
        **_HEADS_OF_8,
        **_MIXED_LAYERS,
        "vocab_size_per_layer_input": VOCAB_SIZE,
        "hidden_size_per_layer_input": 8,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
        "global_head_dim": 12,
    },
    "vaultgemma": {**_HEADS_OF_8, **_MIXED_LAYERS, **_CAPPED},
    "afmoe": {**_EXPERTS, **_MIXED_LAYERS, "head_dim": 8, "num_shared_experts": 1, "num_dense_layers": 1},
    "bitnet": _GROUPED,
    "phi": {**_GROUPED, "qk_layernorm": True, "rope_parameters": _HALF_ROTARY},
    "exaone": _GROUPED,
    "internlm3": _HEADS_OF_8,
    "iquestcoder": _HEADS_OF_8,
    "aria_text": {**_GROUPED, "moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1},
    "jais2": _GROUPED,
    "phimoe": {**_GROUPED, "num_local_experts": 4},
    "cwm": {**_HEADS_OF_8, "rope_parameters": _LLAMA3_ROTARY, "sliding_window": 4096},
    "dots1": {**_EXPERTS, **_ROUTED, "first_k_dense_replace": 1},
    "solar_open": {**_EXPERTS, **_ROUTED, "head_dim": 8},
    "hy_v3": {**_EXPERTS, "head_dim": 8},
    "apertus1p5_text": {**_HEADS_OF_8, "rope_parameters": _LLAMA3_ROTARY},
    "granitemoeshared": {
        **_GROUPED,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "attention_multiplier": 0.25,
        "shared_intermediate_size": 16,
    },
    "glm4_moe": {**_EXPERTS, **_ROUTED, "head_dim": 8, "use_qk_norm": True, "first_k_dense_replace": 1},
    "sarvam_moe": {**_EXPERTS, **_ROUTED, "head_dim": 8, "first_k_dense_replace": 1},
    "cohere": {**_GROUPED, "use_qk_norm": True},
    "ernie4_5_moe": {
        **_GROUPED,
        "moe_intermediate_size": 16,
        "moe_num_experts": 4,
        "moe_k": 2,
        "moe_num_shared_experts": 1,
        "moe_layer_start_index": 0,
    },
    "flex_olmo": {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {**_GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "clip_qkv": 0.5},
    "minimax_m2": {**_HEADS_OF_8, "num_local_experts": 4, "num_experts_per_tok": 2},
    "bloom": {**IDS, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "falcon": {**_GROUPED, "alibi": True, "num_kv_heads": 4},
    "falcon:separate_heads": {**_SIZES, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
    "falcon:rotary": _SIZES,
    "falcon:grouped": {**_SIZES, "new_decoder_architecture": True, "num_kv_heads": 2},
    **_HYBRIDS,
    "gpt_neox": {**_SIZES, "rope_parameters": _HALF_ROTARY},
    "gpt_neox_japanese": {**_SIZES, "intermediate_multiple_size": 2},
    "persimmon": {**_SIZES, "rope_parameters": _HALF_ROTARY},
    "codegen": {**_GPT_SIZES, "n_inner": 48, "rotary_dim": 4},
    "jetmoe": {
        **_SIZES,
        "num_key_value_heads": 2,
        "kv_channels": 8,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "nanochat": _GROUPED,
    "dbrx": {
        "d_model": 32,
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": PRETRAINING_LENGTH,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 0.5, "rope_theta": 1e4},
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "granite_swa": {**_GROUPED, **_MIXED_LAYERS, "attention_multiplier": 0.25, "layer_rope_theta": [1e3, 1e4]},
    "granite_swa:nope": {**_GROUPED, **_MIXED_LAYERS, "attention_multiplier": 0.25, "layer_rope_theta": [1e3, 0]},
    "granitemoe_swa": {
        **_GROUPED,
        **_MIXED_LAYERS,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "attention_multiplier": 0.25,
    },
    "llama4_text": {
        **_HEADS_OF_8,
        "intermediate_size_mlp": 48,
        "num_local_experts": 4,
        "interleave_moe_layer_step": 2,
        "no_rope_layers": [1, 0],
        "attention_chunk_size": 16,
        "floor_scale": 16,
        "attn_scale": 0.5,
    },
    "ministral3": {**_HEADS_OF_8, "rope_parameters": {**_YARN_ROTARY, "llama_4_scaling_beta": 0.5}},
    "mellum": {**_EXPERTS, **_MIXED_LAYERS, "head_dim": 8, "rope_parameters": _BY_KIND},
    "kolibri1": {**_EXPERTS, **_MIXED_LAYERS, "head_dim": 8, "shared_expert_intermediate_size": 16},
    "flint": {**_EXPERTS, **_MIXED_LAYERS, "head_dim": 8, "shared_expert_intermediate_size": 16},
    "laguna": {
        **_EXPERTS,
        **_MIXED_LAYERS,
        "head_dim": 8,
        "num_attention_heads_per_layer": [4, 2],
        "shared_expert_intermediate_size": 16,
    },
    "laguna:per_feature": {
        **_EXPERTS,
        **_MIXED_LAYERS,
        "head_dim": 8,
        "gating": "per-element",
        "shared_expert_intermediate_size": 16,
    },
    "diffllama": _GROUPED,
    "beam": {
        **_EXPERTS,
        **_MIXED_LAYERS,
        "head_dim": 8,
        "n_group": 1,
        "topk_group": 1,
        "mlp_layer_types": ["dense"] * 2,
    },
    "hunyuan_v1_dense": _HEADS_OF_8,
    "hunyuan_v1_dense:alpha": {
        **_HEADS_OF_8,
        "max_position_embeddings": 2048,  # Transformers 5.17 forgets alpha beyond
        "rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 1.0, "alpha": 100.0},
    },
    "hunyuan_v1_moe": {**_HEADS_OF_8, "num_experts": 4, "moe_topk": 2},
    "gptj": {**_GPT_SIZES, "n_inner": 48, "rotary_dim": 4},
    "mpt": _MPT_SIZES,
    "gpt2": _GPT_SIZES,
}
"""Per `model_type`, what makes its configuration tiny; behind a colon stands a kind of it that attends otherwise. gpt2
is there as a family that Λ-attention refuses."""


def type_of(kind: str) -> str:
    """The `model_type` of a key of CONFIGS."""
    return kind.partition(":")[0]


def tiny_config(model_type: str, **overrides: Any) -> PretrainedConfig:
    """A tiny configuration of that family, a key of CONFIGS; `overrides` are configuration fields."""
    return AutoConfig.for_model(type_of(model_type), **{**IDS, **CONFIGS[model_type], **overrides})


def lacks_type(model_type: str) -> bool:
    """Whether the installed Transformers is older than the type."""
    return type_of(model_type) not in CONFIG_MAPPING_NAMES


SOFT_CAPPED = ("gemma2", "vaultgemma")


def tiny_model(model_type: str = "llama", seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """A random float32 model of that family in eval mode, fixed by `seed`; torch's generator is untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config, how = tiny_config(model_type, **overrides), {"dtype": torch.float32}
        if model_type in SOFT_CAPPED:
            how["attn_implementation"] = "eager"  # Transformers 5.17's fused attention leaves the cap out
        model = AutoModelForCausalLM.from_config(config, **how)
        with torch.no_grad():
            for parameter in model.parameters():
                randomise(parameter)
    return model.eval()


def randomise(parameter: torch.nn.Parameter) -> None:
    """Matrices from N(0, 0.2²), so that attention is far from uniform; vectors moved off their 0 or 1."""
    noise = 0.2 * torch.randn_like(parameter)
    parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)


def tiny_input_ids(batch: int, length: int, seed: int = 0) -> torch.Tensor:
    """Random token ids without special tokens: int64, [batch, length]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(len(SPECIAL_TOKENS), VOCAB_SIZE, (batch, length), generator=generator)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: any text can be encoded, and few characters share a token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = SPECIAL_TOKENS + alphabet + ["".join(pair) for pair in MERGES]
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)
