"""DeepSpeed for evaluation: reading a configuration, fitting it to this machine, wrapping a model with it."""

import difflib
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from models.errors import need_package
from utils.errors import UserError
from utils.ranks.extension_builds import clear_stale_builds
from utils.ranks.runtime import Runtime

SHARDED_STAGE = 3
PRECISIONS = {"bf16": "bfloat16", "bfloat16": "bfloat16", "fp16": "float16"}
TRAINING_KEYS = (
    "optimizer",
    "scheduler",
    "train_batch_size",
    "train_micro_batch_size_per_gpu",
    "gradient_accumulation_steps",
    "gradient_clipping",
)


@dataclass(frozen=True)
class DeepSpeedSetup:
    """A DeepSpeed configuration fit for evaluation: what DeepSpeed gets, and the precision it named."""

    config: dict[str, Any]
    precision: str | None

    @property
    def sharded(self) -> bool:
        """Whether parameters are sharded over ranks (ZeRO stage 3)."""
        return self.config["zero_optimization"]["stage"] == SHARDED_STAGE

    def with_precision(self, dtype: str) -> "DeepSpeedSetup":
        """The same, set to a model of this dtype ("float32", ...): a sharded model is created in it."""
        names = {"bfloat16": "bf16", "float16": "fp16"}
        extra = {names[dtype]: {"enabled": True}} if self.sharded and dtype in names else {}
        return DeepSpeedSetup({**self.config, **extra}, self.precision)

    def check(self, path: str) -> None:
        """Have DeepSpeed judge what it will get. Raises UserError naming the file `path` it came from."""
        from deepspeed.runtime.config import DeepSpeedConfig

        try:
            DeepSpeedConfig(self.config)
        except Exception as error:  # pydantic's, assertions, ValueError: they have no common base
            lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
            raise UserError(f"--deepspeed_config {path} is refused by DeepSpeed: {' '.join(lines[:3])}") from None

    def prepare_loading(self) -> object | None:
        """Make `from_pretrained` load sharded, for as long as the returned object is kept alive."""
        if not self.sharded:
            return None
        from transformers.integrations import HfDeepSpeedConfig

        return HfDeepSpeedConfig(self.config)

    def wrap(self, module: nn.Module) -> nn.Module:
        """An engine around the top-level `module`; its forward is the module's."""
        import deepspeed

        engine, *_ = deepspeed.initialize(model=module, config=self.config)
        engine.eval()
        return engine


def read_deepspeed_config(path: str, runtime: Runtime) -> DeepSpeedSetup:
    """Read a DeepSpeed JSON and fit it to evaluation on this machine, at any number of ranks.

    What only training uses is left out, values "auto" become DeepSpeed's defaults, ZeRO stages that shard
    only training state become stage 0. Raises UserError naming the file.
    """
    need_package("--deepspeed_config", "deepspeed")
    config = _without_auto(_read_json(path))
    _refuse_misspelt(config, path)
    precision = _named_precision(config, path)
    zero = config.get("zero_optimization", {})
    stage = zero.get("stage", 0) if isinstance(zero, dict) else None
    if stage not in (0, 1, 2, SHARDED_STAGE):
        raise UserError(f"--deepspeed_config {path}: zero_optimization.stage must be 0, 1, 2 or 3, not {stage!r}")
    kept = {key: value for key, value in config.items() if key not in (*TRAINING_KEYS, *PRECISIONS)}
    kept["train_micro_batch_size_per_gpu"] = 1  # DeepSpeed insists on a batch size; evaluation does not use it
    kept["zero_optimization"] = _sharding(zero, runtime.device) if stage == SHARDED_STAGE else {"stage": 0}
    return DeepSpeedSetup(kept, precision)


def join_deepspeed(runtime: Runtime) -> None:
    """DeepSpeed needs a process group, even of this process alone, and builds extensions of torch's."""
    clear_stale_builds(runtime.console)
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.distributed")  # DeepSpeed's calls
    if not dist.is_initialized():
        backend = "nccl" if runtime.device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)


def choose_precision(requested: str, named: str | None, device: torch.device) -> tuple[str, str | None]:
    """The dtype to load in, and a sentence for the user where the device lacks what the configuration names.

    `requested` is --dtype, `named` what the DeepSpeed configuration enables. The nearest to a 16-bit
    precision is float32, which holds every value of it. Raises UserError where the two contradict each other.
    """
    if requested != "auto" and named not in (None, requested):
        raise UserError(
            f"--dtype {requested} contradicts --deepspeed_config, which enables {named}: change one of them"
        )
    if named is None or supports(device, named):
        return named or requested, None
    return (
        "float32",
        f"{named}, which --deepspeed_config enables, is not supported by {device}: taking float32",
    )


def _read_json(path: str) -> dict[str, Any]:
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--deepspeed_config {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"--deepspeed_config {path} is not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"--deepspeed_config {path} must hold a JSON object")
    return config


def _without_auto(config: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_auto(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if value != "auto"
    }


def _refuse_misspelt(config: dict[str, Any], path: str) -> None:
    """DeepSpeed ignores keys that it does not know: a model would silently not be sharded."""
    for key in config:
        meant = difflib.get_close_matches(key, ("zero_optimization",), cutoff=0.8)
        if meant and meant[0] != key:
            raise UserError(f"--deepspeed_config {path}: {key} is not known, {meant[0]} is")


def _named_precision(config: dict[str, Any], path: str) -> str | None:
    for key in PRECISIONS:
        if not isinstance(config.get(key, {}), dict):
            raise UserError(f'--deepspeed_config {path}: {key} must be an object, such as {{"enabled": true}}')
    enabled = {name for key, name in PRECISIONS.items() if config.get(key, {}).get("enabled") is True}
    if len(enabled) > 1:
        raise UserError(f"--deepspeed_config {path} enables both bf16 and fp16: enable one of them")
    return enabled.pop() if enabled else None


def _sharding(zero: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """ZeRO-3 without training state; memory is pinned only where there is a GPU to copy to."""
    kept = {key: value for key, value in zero.items() if key != "offload_optimizer"}
    if device.type == "cpu" and isinstance(kept.get("offload_param"), dict):
        kept["offload_param"] = {**kept["offload_param"], "pin_memory": False}
    return kept


def supports(device: torch.device, dtype: str) -> bool:
    """Whether the device computes in this dtype ("float32", ...)."""
    if dtype not in ("bfloat16", "float16"):
        return True
    if device.type == "cuda":
        return dtype == "float16" or torch.cuda.is_bf16_supported(including_emulation=False)
    kind = {"bfloat16": "bf16", "float16": "fp16"}[dtype]
    return getattr(torch.ops.mkldnn, f"_is_mkldnn_{kind}_supported")()
