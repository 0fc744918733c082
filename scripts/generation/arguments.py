"""Flags of the scripts that generate text."""

from argparse import Namespace
from dataclasses import dataclass, replace

from utils.arguments import HarnessParser, whole_number
from utils.errors import UserError


@dataclass(frozen=True)
class Generation:
    """How text is generated: at least and at most so many tokens, never some of them, the likeliest or sampled ones.

    max_generation_length: None where a task has a length of its own. seed: of what is sampled; None counts as 0.
    no_captured_step: decoding steps are ordinary forwards, also where one could be captured as a CUDA graph.
    """

    max_generation_length: int | None = 100
    min_new_tokens: int | None = None
    suppress_tokens: list[int] | None = None
    do_sample: bool = False
    seed: int | None = None
    no_captured_step: bool = False

    def or_length(self, length: int) -> "Generation":
        """The same, of this length where it has none."""
        return replace(self, max_generation_length=self.max_generation_length or length)


@dataclass(frozen=True)
class PositionPlan:
    """Where in a document text is generated, and from how much of it.

    evaluate_positions: lengths of the prompts, in tokens. runtime_truncation: a prompt is only its last so many tokens,
    None for all of them. evaluate_metrics: whether BLEU and ROUGE are computed.
    """

    evaluate_positions: list[int]
    runtime_truncation: int | None = None
    evaluate_metrics: bool = False

    @property
    def positions(self) -> list[int]:
        """In ascending order, each once."""
        return sorted(set(self.evaluate_positions))

    @property
    def longest_prompt(self) -> int:
        """In tokens."""
        return min(self.positions[-1], self.runtime_truncation or self.positions[-1])

    @property
    def longest_flag(self) -> str:
        """The flag that bounds it."""
        return "--evaluate_positions" if self.longest_prompt == self.positions[-1] else "--runtime_truncation"


def add_generation_arguments(parser: HarnessParser, max_generation_length: int | None = 100) -> None:
    """How to generate; `max_generation_length` is the default, None where a task recommends one."""
    group = parser.add_argument_group("generation")
    shown = "the task's own" if max_generation_length is None else "%(default)s"
    group.add_argument(
        "--max_generation_length",
        type=whole_number(1),
        default=max_generation_length,
        metavar="TOKENS",
        help=f"tokens to generate at most (default: {shown})",
    )
    group.add_argument(
        "--min_new_tokens", type=whole_number(0), metavar="TOKENS", help="tokens to generate at least (default: 0)"
    )
    group.add_argument(
        "--suppress_tokens",
        type=whole_number(0),
        nargs="*",
        metavar="ID",
        help="numbers of tokens that are never generated (default: none)",
    )
    group.add_argument(
        "--do_sample",
        action="store_true",
        help="sample with --seed and the checkpoint's own settings (default: the likeliest token)",
    )
    group.add_argument(
        "--no_captured_step",
        action="store_true",
        help="decode by ordinary forwards, also where a step could be captured as a CUDA graph",
    )
    parser.checks.append(_suppress_none)


def _suppress_none(arguments: Namespace) -> None:
    """--suppress_tokens without a number, which the published scripts take, says what leaving it out says."""
    arguments.suppress_tokens = arguments.suppress_tokens or None


def add_position_arguments(parser: HarnessParser) -> None:
    """Where in a document to generate, and from how much of it."""
    group = parser.add_argument_group("positions")
    group.add_argument(
        "--evaluate_positions",
        type=whole_number(2),
        nargs="+",
        default=[4096, 8192, 12288, 16384],
        metavar="TOKENS",
        help="lengths of the prompts; shorter documents are passed by (default: 4096 8192 12288 16384)",
    )
    group.add_argument(
        "--runtime_truncation",
        type=whole_number(2),
        metavar="TOKENS",
        help="baseline: the prompt is only the last so many tokens before a position (default: all of them)",
    )
    group.add_argument(
        "--evaluate_metrics", action="store_true", help="compute BLEU and ROUGE of what was generated, per position"
    )
    parser.checks.append(_check_positions)


def _check_positions(arguments: Namespace) -> None:
    farthest = max(arguments.evaluate_positions)
    if arguments.max_length is not None and farthest >= arguments.max_length:
        raise UserError(
            f"--evaluate_positions {farthest} is not within --max_length {arguments.max_length}: no text would be left "
            "to compare with, so give a smaller position or a longer text"
        )
