"""Turn Llama 2 as Meta ships it into a Hugging Face folder: safetensors, configuration and tokenizer.

    python models/get_llama2/convert_llama_weights_to_hf.py --input_dir llama2 --model_size 7B --output_dir llama2/7B-hf

The shards are mapped, not loaded: memory holds one layer at a time, and its copies while it is written (2.5 times a
layer's bytes at the peak). One file a layer is written, and the folder appears whole or not at all.
The generation configuration names the special tokens only, so generation is greedy unless told otherwise.
"""

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # run by its path
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    __package__ = "models.get_llama2"

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from tqdm import tqdm
from transformers import GenerationConfig, PreTrainedTokenizerFast

from ..errors import UserError
from .command import run_command
from .meta_params import MetaParams, read_params
from .meta_parts import Part, groups
from .meta_shards import MetaShards
from .meta_tokenizer import read_tokenizer
from .whole_folder import whole_folder

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class ModelSize:
    """The meaning of a --model_size: the folder that Meta's download has it in, its shards, and what to check."""

    folder: str
    shards: int
    dim: int
    n_layers: int
    chat: bool


_BASE = {"7B": (1, 4096, 32), "13B": (2, 5120, 40), "70B": (8, 8192, 80)}
MODEL_SIZES = {
    size + suffix: ModelSize(f"llama-2-{size.lower()}{'-chat' if suffix else ''}", *sizes, chat=bool(suffix))
    for size, sizes in _BASE.items()
    for suffix in ("", "-chat", "f")  # f: the published name for chat
}


def main() -> None:
    args = parse_arguments()
    convert(args.input_dir, args.output_dir, args.model_size, args.dtype, args.max_position_embeddings)
    print(f"wrote {args.output_dir}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--input_dir", type=Path, required=True, help="the target folder of download_llama2.sh, or a model's in it"
    )
    parser.add_argument(
        "--model_size",
        choices=list(MODEL_SIZES),
        help="which model of the folder; another is said and written as it is; chat sizes get Llama 2's chat template "
        "(default: --input_dir is one model's folder, of any size)",
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write, not there yet")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float16", help="of the weights (float16)")
    parser.add_argument(
        "--max_position_embeddings",
        type=int,
        default=4096,
        help="pre-training length in tokens, which Meta's files do not say (4096, Llama 2's)",
    )
    return parser.parse_args()


def convert(
    input_dir: Path,
    output_dir: Path,
    model_size: str | None = None,
    dtype: str = "float16",
    max_position_embeddings: int = 4096,
) -> None:
    """Write the model of `input_dir` to `output_dir`; the arguments are the flags of those names. Raises UserError."""
    size = MODEL_SIZES[model_size] if model_size else None
    if max_position_embeddings < 1:
        raise UserError(f"--max_position_embeddings {max_position_embeddings} is not a length: give 1 or more")
    folder = find_model(input_dir, model_size)
    tokenizer = read_tokenizer(find_tokenizer(folder), chat=bool(size and size.chat))
    params = read_params(folder / "params.json", len(tokenizer))
    expected = size.shards if size else None
    if size and (params.dim, params.n_layers) != (size.dim, size.n_layers):
        expected = None
        print(
            f"warning: --model_size {model_size} is {size.n_layers} layers of {size.dim}, and "
            f"{folder / 'params.json'} is of a model with {params.n_layers} layers of {params.dim}: "
            "that one is written",
            file=sys.stderr,
            flush=True,
        )
    shards = MetaShards(folder, expected)
    shards.check(part for group in groups(params) for part in group)
    with whole_folder("--output_dir", output_dir) as partial:
        check_room(output_dir, partial, params, DTYPES[dtype])
        write_weights(shards, params, DTYPES[dtype], partial)
        write_configs(params, tokenizer, dtype, max_position_embeddings, partial)


def find_model(input_dir: Path, model_size: str | None) -> Path:
    """The folder with params.json: that of the size in Meta's download, or `input_dir` itself."""
    names = [MODEL_SIZES[model_size].folder, model_size, ""] if model_size else [""]
    folders = [input_dir / name for name in names]
    for folder in folders:
        if (folder / "params.json").is_file():
            return folder
    sought = " or ".join(str(folder) for folder in folders)
    remedy = "name a model's own folder" if model_size else "name a model's own folder, or its --model_size"
    raise UserError(f"--input_dir: there is no params.json in {sought}: {remedy}")


def find_tokenizer(folder: Path) -> Path:
    """Meta's download has it beside the models' folders."""
    for path in (folder / "tokenizer.model", folder.resolve().parent / "tokenizer.model"):
        if path.is_file():
            return path
    raise UserError(
        f"--input_dir: there is no tokenizer.model in {folder} or in the folder that holds it: put it there"
    )


def check_room(output_dir: Path, partial: Path, params: MetaParams, dtype: torch.dtype) -> None:
    elements = sum(torch.Size(part.shape).numel() for group in groups(params) for part in group)
    needed, free = elements * dtype.itemsize, shutil.disk_usage(partial).free
    if free < needed:
        raise UserError(
            f"--output_dir {output_dir}: the disk has {free / 2**30:.1f} GiB free where the weights take "
            f"{needed / 2**30:.1f}: give a folder on another disk"
        )


def write_weights(shards: MetaShards, params: MetaParams, dtype: torch.dtype, folder: Path) -> None:
    """One safetensors file a group of parts, and the index that says where each tensor is."""
    files, weight_map, total = groups(params), {}, 0
    for number, parts in enumerate(tqdm(files, desc="converting", unit="layer", disable=None), start=1):
        name = f"model-{number:05d}-of-{len(files):05d}.safetensors"
        total += write_group(shards, parts, dtype, folder / name)
        weight_map |= {part.hf: name for part in parts}
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_group(shards: MetaShards, parts: list[Part], dtype: torch.dtype, path: Path) -> int:
    """The bytes of the tensors, which are gone from memory on return."""
    tensors = {part.hf: shards.gather(part, dtype) for part in parts}
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(0, str(error)) from None
    return sum(tensor.nbytes for tensor in tensors.values())


def write_configs(
    params: MetaParams, tokenizer: PreTrainedTokenizerFast, dtype: str, max_position_embeddings: int, folder: Path
) -> None:
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    params.hf_config(dtype, max_position_embeddings, **ids).save_pretrained(folder)
    GenerationConfig(**ids).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    run_command(main)
