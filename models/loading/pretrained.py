"""Configuration, tokenizer and weights through Transformers; what is wrong with them becomes one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GgufConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..converting.wrappers import SEEING, text_config
from ..get_llama2.meta_tokenizer import read_tokenizer
from .source import Source, check_model_folder, check_tokenizer_folder

META_TOKENIZER, TRANSFORMERS_TOKENIZER = "tokenizer.model", ("tokenizer.json", "tokenizer_config.json")
UNLIMITED = int(1e30)  # what Transformers itself takes for "no limit"


def load_config(source: Source) -> PretrainedConfig:
    check_model_folder(source)
    problem = "the configuration cannot be loaded"
    if not Path(source.location).is_dir():
        problem = f"there is no such folder, and as a hub name {problem}"
    with _reported(source, problem):
        return AutoConfig.from_pretrained(**source.files, trust_remote_code=False)


def loaded_config(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration of the model that is loaded: of some that see as well, that is their text model alone."""
    kind = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    text_alone = kind is not None and kind.config_class is type(text_config(config))
    return text_config(config) if text_alone else config


def _loader(config: PretrainedConfig) -> type:
    """Of models that see as well, Transformers lists few as causal LMs."""
    as_causal = config.model_type not in SEEING or type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    return AutoModelForCausalLM if as_causal else AutoModelForImageTextToText


def load_tokenizer(source: Source) -> PreTrainedTokenizerBase:
    """The tokenizer, with a padding token, and without its warning about texts beyond its own limit."""
    check_tokenizer_folder(source)
    with _reported(source, "the tokenizer cannot be loaded, --tokenizer_path can name another one"):
        if _is_metas_own(source.folder):
            tokenizer = read_tokenizer(source.folder / META_TOKENIZER, chat=False)
        else:
            tokenizer = AutoTokenizer.from_pretrained(**source.files, trust_remote_code=False)
    tokenizer.model_max_length = UNLIMITED
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _is_metas_own(folder: Path | None) -> bool:
    """Whether there is nothing but the sentencepiece model of Meta's release, which Transformers reads without <s>."""
    return (
        folder is not None
        and (folder / META_TOKENIZER).is_file()
        and not any((folder / name).is_file() for name in TRANSFORMERS_TOKENIZER)
    )


def load_weights(source: Source, config: PretrainedConfig, options: dict[str, Any]) -> PreTrainedModel:
    """The model, complete. `options` are further arguments of Transformers' from_pretrained."""
    if source.gguf_file:
        options = {**options, "quantization_config": GgufConfig(dequantize=True)}
    with _reported(source, "the model cannot be loaded"):
        model, report = _loader(config).from_pretrained(
            **source.files,
            **options,
            config=config,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # reported below, by name
            output_loading_info=True,
        )
    _check_complete(source, report)
    return model


def _check_complete(source: Source, report: dict[str, Any]) -> None:
    """Transformers fills weights that it does not find with random numbers: results would mean nothing."""
    mismatched = [name for name, *_ in report["mismatched_keys"]]
    absent = sorted([*report["missing_keys"], *mismatched])
    if absent:
        raise source.error(
            f"{len(absent)} weights that its configuration calls for are missing or have another shape "
            f"(the first is {absent[0]}); weights and config.json must belong together"
        )


@contextmanager
def _reported(source: Source, problem: str) -> Iterator[None]:
    """Report whatever the libraries raise over a user's files: their exceptions have no base of their own."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".:") or type(error).__name__
        raise source.error(f"{problem} ({reason})") from error
