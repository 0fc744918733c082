"""From a script's flags to a model that runs: DeepSpeed or not, precision, device."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from scripts.harness.model_arguments import lambda_config, model_spec
from utils.errors import SharedError
from utils.ranks.deepspeed import choose_precision, join_deepspeed, read_deepspeed_config, supports
from utils.ranks.runtime import Runtime

if TYPE_CHECKING:
    from models.get_model import ModelSpec


@dataclass
class RunnableModel:
    """A loaded model. `place` puts the module that a script calls (the model or a wrapper of it) on the
    device.

    `identity` and `lambda_attention` are what config.json records of it.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    identity: dict[str, Any]
    lambda_attention: dict[str, Any] | None
    place: Callable[[nn.Module], nn.Module]


def load_model(arguments: Namespace, runtime: Runtime) -> RunnableModel:
    """Load --model as the flags say, under --deepspeed_config if given. Raises UserError."""
    _check_placement(arguments, runtime)
    if not (runtime.is_main and runtime.console.interactive):
        disable_progress_bar()
    if not arguments.deepspeed_config:
        return _load(arguments, model_spec(arguments), _placer(arguments, runtime))
    setup = read_deepspeed_config(arguments.deepspeed_config, runtime)
    dtype, note = choose_precision(arguments.dtype, setup.precision, runtime.device)
    if note:
        runtime.console.say(note)
    if setup.sharded:
        dtype = _sharded_dtype(arguments, dtype, runtime)
    spec = replace(model_spec(arguments), dtype=dtype)
    join_deepspeed(runtime)
    setup = setup.with_precision(dtype)
    setup.check(arguments.deepspeed_config)
    sharded_loading = setup.prepare_loading()
    runnable = _load(arguments, spec, setup.wrap)
    del sharded_loading  # it must live until here
    return runnable


def is_sharded(arguments: Namespace, runtime: Runtime) -> bool:
    """Whether --deepspeed_config spreads the weights over ranks. Raises UserError."""
    path = arguments.deepspeed_config
    return bool(path) and read_deepspeed_config(path, runtime).sharded


def _load(arguments: Namespace, spec: "ModelSpec", place: Callable[[nn.Module], nn.Module]) -> RunnableModel:
    from models.get_model import get_model

    config = lambda_config(arguments)
    loaded = get_model(spec, config)
    return RunnableModel(
        loaded.model,
        loaded.tokenizer,
        loaded.identity,
        config.to_dict() if config is not None else None,
        place,
    )


def _check_placement(arguments: Namespace, runtime: Runtime) -> None:
    if arguments.device_map and runtime.world_size > 1:
        raise SharedError(
            f"--device_map spreads one model over this machine's devices and cannot be used by "
            f"{runtime.world_size} ranks: start one rank, or use ZeRO-3"
        )


def _placer(arguments: Namespace, runtime: Runtime) -> Callable[[nn.Module], nn.Module]:
    """Without DeepSpeed: move the module to the device, unless loading has placed it already."""
    if arguments.device_map or arguments.load_in_4bit:
        return lambda module: module
    return lambda module: module.to(runtime.device)


def _sharded_dtype(arguments: Namespace, dtype: str, runtime: Runtime) -> str:
    """ZeRO-3 creates the weights itself: it must be told their precision, which the device must support."""
    wanted = _checkpoint_dtype(arguments.model) if dtype == "auto" else dtype
    if supports(runtime.device, wanted):
        return wanted
    if dtype != "auto":
        raise SharedError(
            f"--dtype {dtype} is not supported by {runtime.device} under ZeRO-3: give another one, or a "
            "--deepspeed_config without ZeRO-3"
        )
    runtime.console.say(f"{wanted}, which --model is saved in, is not supported by {runtime.device}: taking float32")
    return "float32"


def _checkpoint_dtype(model: str) -> str:
    """The precision that a checkpoint says it was saved in."""
    from models.constant import CONSTANT_MODEL
    from models.loading.pretrained import load_config
    from models.loading.source import find_source

    if model == CONSTANT_MODEL:
        return "float32"
    return str(load_config(find_source("--model", model)).dtype or "float32").removeprefix("torch.")
