"""Create a file of pass keys hidden in noise, which `passkey_retrieval` reads with --dataset_dir.

    python data/passkey_retrieval/create_passkey_data.py --token-length 4096 --dump-file-path passkeys/4096 \
        --tokenizer-path sample/SmolLM2-135M-Instruct

Each line of FOLDER/test.jsonl has `input` (the text before the question), `target`, and besides the published fields
`length` (tokens of the whole prompt, question and special tokens included), `depth` (of the key, 0 to 1) and `seed`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from data.sources.text import explained
from utils.arguments import HarnessParser, whole_number
from utils.program import run_main


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = HarnessParser(__doc__.partition("\n\n")[0])
    parser.add_argument(
        "--token-length",
        type=whole_number(1),
        default=256,
        metavar="TOKENS",
        help="length of a prompt, within one sentence of the noise and never above (default: %(default)s)",
    )
    parser.add_argument("--dump-file-path", required=True, type=Path, metavar="DIR", help="folder of test.jsonl")
    parser.add_argument("--tokenizer-path", required=True, metavar="NAME", help="tokenizer folder or name")
    parser.add_argument(
        "--num-samples", type=whole_number(1), default=200, metavar="N", help="prompts to write (default: %(default)s)"
    )
    parser.add_argument("--first-half", action="store_true", help="hide the key in the first half of the noise only")
    parser.add_argument(
        "--nominal-length", action="store_true", help="prompts as long as the published generator makes them for that"
    )
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="N", help="default: %(default)s")
    return parser.parse_args()


def main() -> None:
    """Write the file whole or not at all, then say what is in it."""
    arguments = parse_arguments()
    # Heavy, so not before the command line is known to be right.
    from data.tasks.passkey_retrieval import FILE, TASK
    from data.tasks.prompt import PromptEncoder
    from data.tasks.task import TaskRequest, open_examples
    from models.loading.pretrained import load_tokenizer
    from models.loading.source import find_source
    from utils.files import json_text, replace_file

    tokenizer = load_tokenizer(find_source("--tokenizer-path", arguments.tokenizer_path))
    request = TaskRequest(
        TASK.name,
        **PromptEncoder(tokenizer).counts(),
        length=arguments.token_length,
        length_flag="token-length",
        seed=arguments.seed,
        num_samples=arguments.num_samples,
        first_half=arguments.first_half,
        nominal_length=arguments.nominal_length,
    )
    examples = list(open_examples(TASK, request))
    lines = [
        {
            "input": example.prompt.head + example.prompt.context,
            "target": example.targets[0],
            "length": example.length,
            "depth": round(example.depth, 6),
            "seed": arguments.seed,
        }
        for example in examples
    ]
    text = "".join(f"{json_text(line)}\n" for line in lines)
    folder = arguments.dump_file_path
    with explained(f"--dump-file-path {folder} cannot be written"):
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / FILE, lambda file: file.write(text.encode()))
    lengths = [example.length for example in examples]
    print(f"{folder / FILE}: {len(lines):,} prompts of {min(lengths):,} to {max(lengths):,} tokens")


if __name__ == "__main__":
    run_main(main)
