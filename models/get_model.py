"""Load a model and its tokenizer from what the command line names, with or without Λ-attention."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import BitsAndBytesConfig, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.integrations import is_deepspeed_zero3_enabled
from transformers.utils import is_accelerate_available

from .assumptions import check_version
from .attention.bands.config import BandsConfig
from .attention.config import Method
from .attention.sequence.group import Ranks
from .constant import CONSTANT_MODEL, ConstantModel
from .converting.family import Family
from .converting.moving import why_not_moved
from .converting.wrappers import text_config
from .errors import SharedError, need_package
from .loading.identity import model_identity
from .loading.pretrained import load_config, load_tokenizer, load_weights, loaded_config
from .loading.rope_scaling import rope_type, scale_rope
from .loading.sample import SAMPLE_MODEL
from .loading.source import Source, find_source
from .model_base import convert_model, extend_vanilla_positions, family_of, pretraining_length

DTYPES = {
    "auto": "auto",
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class ModelSpec:
    """A model to load, as the command line names it.

    model: "smollm2" (embedded), "constant_model", a folder, a `.gguf` file, or a hub name.
    tokenizer_path: where the tokenizer is if not with the model; named as a model is.
    dtype: "auto" (what the checkpoint was saved in), "float32", "bfloat16" or "float16".
    device_map: passed on to Transformers, e.g. "auto"; None leaves the model where `get_model` is told, or on the CPU.
    constant_answer: what "constant_model" says.
    rope_scaling: None, or "linear", "dynamic", "ntk" or "yarn" for a checkpoint that has none; rope_factor: its factor,
        at least 1, None for target_length, in tokens, over the pre-training length.
    """

    model: str = SAMPLE_MODEL
    tokenizer_path: str | None = None
    dtype: str = "auto"
    load_in_4bit: bool = False
    device_map: str | None = None
    constant_answer: str | None = None
    rope_scaling: str | None = None
    rope_factor: float | None = None
    target_length: int | None = None


@dataclass
class LoadedModel:
    """A model in eval mode, its tokenizer, and what identifies both in a trial's config.json."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    identity: dict[str, Any]


def get_model(
    spec: ModelSpec,
    lambda_config: Method | None = None,
    device: torch.device | None = None,
    sequence_group: Ranks | None = None,
) -> LoadedModel:
    """Load what `spec` names, converted to Λ-attention, or another method, if `lambda_config` is given.

    Without it the model is the unmodified Hugging Face one, except that it can run past its position tables.
    device: where it will compute. Weights are loaded straight to it, a tensor at a time; those of a GGUF file, and all
    of them where accelerate is not installed, to the CPU. sequence_group: the ranks that read one sequence with the
    converted model together.
    Raises UserError, naming the flag, for anything that cannot be found, read, or done on this machine.
    """
    check_version()
    if spec.model == CONSTANT_MODEL:
        loaded = _load_constant(spec, lambda_config)
    else:
        loaded = _load_pretrained(spec, lambda_config, device)
    loaded.model.eval()
    if lambda_config is not None:
        try:
            convert_model(loaded.model, lambda_config, sequence_group)
        except ValueError as error:
            raise SharedError(f"--model {spec.model}: {error}") from None
    else:
        extend_vanilla_positions(loaded.model)
    return loaded


def _load_constant(spec: ModelSpec, method: Method | None) -> LoadedModel:
    source = find_source("--tokenizer_path", spec.tokenizer_path or SAMPLE_MODEL)
    tokenizer = load_tokenizer(source)
    model = ConstantModel.from_tokenizer(tokenizer, spec.constant_answer)
    _scale(model.config, spec)
    _check_supported(model.config, method)
    if spec.dtype != "auto":
        model.to(DTYPES[spec.dtype])
    return LoadedModel(model, tokenizer, model_identity(spec.model, source.name, model))


def _load_pretrained(spec: ModelSpec, method: Method | None, device: torch.device | None) -> LoadedModel:
    """Cheap checks first: a wrong flag is found before minutes of loading weights."""
    source = find_source("--model", spec.model)
    own_tokenizer = spec.tokenizer_path is None
    tokenizer_source = source if own_tokenizer else find_source("--tokenizer_path", spec.tokenizer_path)
    _check_machine(spec, source)
    config = load_config(source)
    _scale(config, spec)
    _check_supported(config, method)
    tokenizer = load_tokenizer(tokenizer_source)
    _check_vocabulary(tokenizer.vocab_size, tokenizer_source, text_config(config).vocab_size)
    model = load_weights(source, config, _loading_options(spec, source, device))
    return LoadedModel(model, tokenizer, model_identity(source.name, tokenizer_source.name, model))


def _loading_options(spec: ModelSpec, source: Source, device: torch.device | None) -> dict[str, Any]:
    """The arguments of Transformers' from_pretrained that the command line and the device decide."""
    options: dict[str, Any] = {"dtype": DTYPES[spec.dtype]}
    if spec.device_map:
        options["device_map"] = spec.device_map
    if spec.load_in_4bit:
        options["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True)
    placed = spec.device_map or spec.load_in_4bit or source.gguf_file  # the last one is unpacked on the CPU
    if device is not None and device.type != "cpu" and not placed and is_accelerate_available():
        options["device_map"] = device
    return options


def _check_machine(spec: ModelSpec, source: Source) -> None:
    """Refuse what this machine, or this way of loading, cannot do."""
    zero3 = is_deepspeed_zero3_enabled()
    refusals = [
        (
            zero3 and source.gguf_file,
            f"--model {spec.model}: ZeRO-3 cannot shard a GGUF file; convert it to a Hugging Face folder, "
            "or choose a --deepspeed_config without ZeRO-3",
        ),
        (
            zero3 and spec.device_map,
            "--device_map cannot be combined with ZeRO-3, which places the model itself: give one of them",
        ),
        (
            zero3 and spec.load_in_4bit,
            "--load_in_4bit cannot be combined with ZeRO-3, which shards whole weights: give one of them",
        ),
        (
            spec.load_in_4bit and source.gguf_file,
            f"--load_in_4bit cannot be combined with the GGUF file {spec.model}, which is quantized already",
        ),
    ]
    for refused, sentence in refusals:
        if refused:
            raise SharedError(sentence)
    if source.gguf_file:
        need_package(f"{source.flag} {source.name}: a GGUF file", "gguf")
    if spec.load_in_4bit:
        need_package("--load_in_4bit", "bitsandbytes")
    if spec.device_map:
        need_package("--device_map", "accelerate")


def _scale(config: PretrainedConfig, spec: ModelSpec) -> None:
    if spec.rope_scaling is not None:
        scale_rope(config, spec.rope_scaling, spec.rope_factor, spec.target_length)


def _check_supported(config: PretrainedConfig, method: Method | None) -> None:
    if method is None:
        return
    family, config = family_of(loaded_config(config)), text_config(config)
    first, layers = 0 if method.top_k is None else method.top_k.from_layer, config.num_hidden_layers
    if first >= layers:
        raise SharedError(f"--top_k_from_layer {first} is not one of this model's {layers} layers, counted from 0")
    if isinstance(method, BandsConfig):
        _check_remapped(config, family, method)
    elif rope_type(config) == "dynamic" and method.farthest is None:
        raise SharedError(
            "--limit_distance none cannot be combined with RoPE scaling 'dynamic': its frequencies would grow with the "
            "text, so give a limit"
        )


def _check_remapped(config: PretrainedConfig, family: Family, method: BandsConfig) -> None:
    """Refuse positions that a method cannot move, and one that would need what is not known."""
    reason = why_not_moved(config, family, method)
    if reason is not None:
        raise SharedError(f"--remap_positions {method.method} {reason}")
    try:
        method.of_length(pretraining_length(config))
    except ValueError as error:
        raise SharedError(f"--remap_positions {method.method}: {error}") from None


def _check_vocabulary(tokens: int, tokenizer_source: Source, embeddings: int) -> None:
    """Tokens that the model has no embedding for would fail in the middle of a run."""
    if tokens > embeddings:
        raise tokenizer_source.error(
            f"this tokenizer has {tokens} tokens, the model only {embeddings}; "
            "name the tokenizer that belongs to the model with --tokenizer_path"
        )
