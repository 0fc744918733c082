"""Meta's consolidated.*.pth: the shards of one model, mapped into memory and read tensor by tensor."""

import pickle
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from ..errors import UserError
from .meta_parts import Part

SHARD_NAME = re.compile(r"consolidated\.(\d{2})\.pth")
COMPUTED = "rope.freqs"  # a buffer that Transformers computes itself


class MetaShards:
    """The shards of a folder. Nothing is read but what `gather` asks for."""

    def __init__(self, folder: Path, expected: int | None):
        """expected: how many shards there must be; None takes those that are there. Raises UserError."""
        self.paths = _find(folder, expected)
        self.shards = [_load(path) for path in self.paths]

    def check(self, parts: Iterable[Part]) -> None:
        """Every shard must hold its share of `parts` and nothing else, all in one dtype. Raises UserError."""
        parts = list(parts)
        known = {part.meta for part in parts} | {COMPUTED}
        for path, shard in zip(self.paths, self.shards):
            unknown = sorted(shard.keys() - known)
            if unknown:
                raise UserError(f"{path} holds {unknown[0]}, which the model of params.json has not")
            for part in parts:
                self._check_share(path, shard, part)

    def _check_share(self, path: Path, shard: dict[str, Tensor], part: Part) -> None:
        if part.meta not in shard:
            raise UserError(f"{path} has no {part.meta}, which the model of params.json has")
        tensor, first = shard[part.meta], self.shards[0][part.meta]
        count, wanted = len(self.shards), part.shard_shape(len(self.shards))
        if tuple(tensor.shape) != wanted:
            raise UserError(
                f"{path}: {part.meta} is {list(tensor.shape)}, which is not one of {count} equal shares of "
                f"{list(part.shape)} as in params.json: a shard is missing, or is another model's"
            )
        if tensor.dtype != first.dtype or not tensor.is_floating_point():
            raise UserError(
                f"{path}: {part.meta} is {_name(tensor.dtype)} where {_name(first.dtype)}, a floating-point type "
                f"as in {self.paths[0].name}, is expected: the shards are not of one model"
            )

    def gather(self, part: Part, dtype: torch.dtype) -> Tensor:
        """The whole tensor as Transformers orders it, in memory of its own, contiguous. Raises UserError."""
        holders = self.shards[:1] if part.cut is None else self.shards
        whole = torch.cat([shard[part.meta].to(dtype) for shard in holders], dim=part.cut or 0)
        if not whole.isfinite().all():
            raise UserError(
                f"{self.paths[0].parent}: {part.meta} has values that are not finite in {_name(dtype)}: "
                "give --dtype bfloat16 or float32, or download the weights again"
            )
        return part.in_hf_order(whole)


def _find(folder: Path, expected: int | None) -> list[Path]:
    """consolidated.00.pth and on, without a gap."""
    numbers = sorted(int(match[1]) for path in folder.iterdir() if (match := SHARD_NAME.fullmatch(path.name)))
    count = expected or max(numbers, default=0) + 1
    paths = [folder / f"consolidated.{number:02d}.pth" for number in range(count)]
    for path in paths:
        if not path.is_file():
            raise UserError(f"{path} is missing: download it with models/get_llama2/download_llama2.sh")
    if len(numbers) > count:
        raise UserError(f"{folder} holds {len(numbers)} shards where --model_size means {count}")
    return paths


def _load(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name. weights_only: unpickling runs no code of the file's."""
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, ValueError, EOFError, OSError, KeyError, pickle.UnpicklingError):
        raise UserError(f"{path} is not a whole checkpoint of Meta's: download it again") from None
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path} is not a checkpoint of Meta's, which holds tensors by name: download it again")
    return tensors


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
