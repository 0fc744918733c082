"""Why models of some types are not supported, by `config.model_type`."""

_LATENT = "its keys and values are compressed together (multi-head latent attention)"
_INDEXER = "an indexer chooses which keys are attended"
_ADDED = "its positions are added to the embeddings, so there is no distance in its scores to limit"
_DECODER = f"it is the decoder of an encoder-decoder, and {_ADDED}"
_RECURRENT = "it has no attention over its tokens: what it keeps of a text is bounded already"
_LOOPED = "its layers read a text several times, and each time with other keys"
_BIASED = "its scores have learned biases by distance"
_AXES = "its positions have three axes (time, height, width), so no score is one of a distance alone"
_SHARED = "some of its layers attend to keys of other layers"

REASONS = {
    **dict.fromkeys(("axk1", "bailing_hybrid", "deepseek_v2", "deepseek_v3", "glm4_moe_lite", "kimi_linear"), _LATENT),
    **dict.fromkeys(("longcat_flash", "minicpm3", "sarvam_mla", "youtu"), _LATENT),
    **dict.fromkeys(
        ("axk2", "deepseek_v32", "dots3_note", "dots3_note_text", "glm_moe_dsa"), f"{_LATENT}, and {_INDEXER}"
    ),
    "hy_v4": f"{_LATENT}, and {_INDEXER}",
    "deepseek_v4": f"its keys are compressed over several tokens, and {_INDEXER}",
    **dict.fromkeys(("minimax_m3_vl_text", "qwen4_exp", "qwen4_exp_text"), _INDEXER),
    **dict.fromkeys(("falcon_mamba", "mamba", "mamba2", "rwkv", "xlstm"), _RECURRENT),
    "recurrent_gemma": "it attends within a window, beside a recurrent state: what it keeps is bounded already",
    **dict.fromkeys(
        ("biogpt", "ctrl", "gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neo", "openai-gpt", "opt", "xglm"), _ADDED
    ),
    **dict.fromkeys(("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie"), _ADDED),
    **dict.fromkeys(("megatron-bert", "rembert", "roberta", "roberta-prelayernorm", "roc_bert", "xlm"), _ADDED),
    **dict.fromkeys(("xlm-roberta", "xlm-roberta-xl", "xmod"), _ADDED),
    **dict.fromkeys(("bart", "bigbird_pegasus", "blenderbot", "blenderbot-small", "marian", "mbart", "mvp"), _DECODER),
    **dict.fromkeys(("musicgen", "musicgen_melody", "pegasus", "plbart", "prophetnet", "trocr", "whisper"), _DECODER),
    "roformer": "it is an encoder, whose tokens attend to those behind them as well",
    "xlnet": f"{_BIASED}, and it reads in two streams",
    "cpmant": f"{_BIASED}, and its prompt is attended in both directions",
    **dict.fromkeys(("inkling2_text", "inkling_text"), f"{_BIASED}, and convolutions run along its keys"),
    **dict.fromkeys(("dory", "hrm_text", "inkling2_loop_text"), _LOOPED),
    **dict.fromkeys(("gemma3n_text", "gemma4_assistant", "gemma4_unified_text"), _SHARED),
    **dict.fromkeys(("glm4v", "glm4v_moe", "glm46v", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe"), _AXES),
    **dict.fromkeys(("qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text"), _AXES),
    "paligemma": "the tokens of its prompt attend to each other in both directions",
    "zaya": "convolutions run along its queries and keys",
    "reformer": "hashes choose which keys are attended",
    "doge": "its values choose which keys are attended",
    "blt": "it reads bytes in patches, and its levels attend to each other",
    "modernbert-decoder": "its head has layers of its own, which scoring the logits in slices would leave out",
    "llama4": "its forward fails in Transformers 5.24: load its text model alone, with AutoModelForCausalLM",
}
