"""From the plan of a model to one that runs: DeepSpeed or not, precision, device."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from models.attention.bands.config import BandsConfig
from models.attention.settings import ON_CPU_ALONE
from models.constant import CONSTANT_MODEL
from models.converting.family import describe_layers
from models.converting.wrappers import conversion_of
from models.get_model import get_model
from models.loading.pretrained import load_config
from models.loading.source import find_source
from models.model_base import pretraining_length
from scripts.harness.model_arguments import ModelPlan
from utils.errors import SharedError, UserError
from utils.ranks.deepspeed import DeepSpeedSetup, choose_precision, join_deepspeed, read_deepspeed_config, supports
from utils.ranks.runtime import Runtime


@dataclass
class RunnableModel:
    """A loaded model.

    identity, lambda_attention: what config.json records of it. device: where it computes, None if loading has put it
    where it belongs, or DeepSpeed shards it. deepspeed: None without DeepSpeed. compiled: as in ModelPlan.
    method: how its layers attend, in words; empty for an unconverted model.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    identity: dict[str, Any]
    lambda_attention: dict[str, Any] | None
    device: torch.device | None = None
    deepspeed: DeepSpeedSetup | None = None
    compiled: bool = True
    method: str = ""

    @property
    def name(self) -> str:
        """The model as the user named it."""
        return self.identity["name"]

    @property
    def vocab_size(self) -> int:
        """How many tokens the model knows."""
        return self.identity["vocab_size"]

    @property
    def is_sharded(self) -> bool:
        """Whether each rank holds a part of the weights, and needs the others in every forward."""
        return self.deepspeed is not None and self.deepspeed.sharded

    def place(self, module: nn.Module) -> nn.Module:
        """Put the module that an experiment calls, the model or a wrapper of it, where it computes; returns it.

        With DeepSpeed that is an engine around it, which must live as long as the model is used.
        """
        if self.deepspeed is not None:
            return self.deepspeed.wrap(module)
        return module if self.device is None else module.to(self.device)


def load_model(plan: ModelPlan, runtime: Runtime) -> RunnableModel:
    """Load what the plan names, under DeepSpeed if it says so. Raises UserError."""
    _check_machine(plan, runtime)
    if not (runtime.is_main and runtime.console.interactive):
        disable_progress_bar()
    if not plan.deepspeed_config:
        placed = bool(plan.spec.device_map or plan.spec.load_in_4bit)
        return _load(plan, runtime, None if placed else runtime.device)
    setup = read_deepspeed_config(plan.deepspeed_config, runtime)
    dtype, note = choose_precision(plan.spec.dtype, setup.precision, runtime.device)
    if note:
        runtime.console.say(note)
    if setup.sharded:
        dtype = _sharded_dtype(plan.spec.model, dtype, runtime)
    join_deepspeed(runtime)
    setup = setup.with_precision(dtype)
    setup.check(plan.deepspeed_config)
    sharded_loading = setup.prepare_loading()
    device = None if setup.sharded else runtime.device
    runnable = _load(replace(plan, spec=replace(plan.spec, dtype=dtype)), runtime, device, setup)
    del sharded_loading  # it must live until here
    return runnable


def is_sharded(plan: ModelPlan, runtime: Runtime) -> bool:
    """Whether --deepspeed_config spreads the weights over ranks. Raises UserError."""
    path = plan.deepspeed_config
    return bool(path) and read_deepspeed_config(path, runtime).sharded


def _load(
    plan: ModelPlan, runtime: Runtime, device: torch.device | None = None, deepspeed: DeepSpeedSetup | None = None
) -> RunnableModel:
    loaded = get_model(plan.spec, plan.attention, device, runtime.sequence)
    settings = None if plan.attention is None else loaded.model.config.lambda_attention  # all of it chosen
    own = loaded.model, loaded.tokenizer, loaded.identity
    return RunnableModel(*own, settings, device, deepspeed, plan.compiled, describe_method(loaded.model))


def describe_method(model: nn.Module) -> str:
    """Which layers attend how, and by which settings; empty for an unconverted model."""
    conversion = conversion_of(model)
    if conversion is None:
        return ""
    config, length = conversion.config, pretraining_length(model.config)
    values = config.to_dict()
    settings = [f"{name} {values[name]}" for name in _SETTINGS if values.get(name) is not None]
    described = f"{describe_layers(config, conversion.plans)}: {', '.join(settings)}"
    reach = config.reach(length) if isinstance(config, BandsConfig) and length is not None else None
    if reach is not None:
        described += f"; beyond {reach:,} tokens distances are felt that the model was not trained with"
    return described


_SETTINGS = (
    *("local_branch", "global_branch", "limit_distance", "sink_positions"),
    *("window", "group", "chunk", "factor", "log_scale"),
)


def _check_machine(plan: ModelPlan, runtime: Runtime) -> None:
    """Refuse what these ranks and devices cannot do."""
    if plan.spec.device_map and runtime.world_size > 1:
        raise SharedError(
            f"--device_map spreads one model over this machine's devices and cannot be used by "
            f"{runtime.world_size} ranks: start one rank, or use ZeRO-3"
        )
    backend = None if plan.attention is None else plan.attention.backend
    if backend in ("flash", "flex") and runtime.device.type != "cuda":
        raise UserError(f"--backend {backend} needs a CUDA device, and there is none: take blockwise, or leave it out")
    if backend in ON_CPU_ALONE and runtime.device.type != "cpu":
        raise UserError(f"--backend {backend} is for the CPU alone, not for {runtime.device}: leave it out")
    if backend == "flex" and not plan.attention.compiled:
        raise UserError("--backend flex needs torch.compile, and --no_compile turns it off: give one of them")


def _sharded_dtype(model: str, dtype: str, runtime: Runtime) -> str:
    """The precision that ZeRO-3 creates the weights in: it must be told, and the device must support it."""
    wanted = _checkpoint_dtype(model) if dtype == "auto" else dtype
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
    if model == CONSTANT_MODEL:
        return "float32"
    return str(load_config(find_source("--model", model)).dtype or "float32").removeprefix("torch.")
