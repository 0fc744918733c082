"""Flags of a stream: what is accepted, what is refused and with which sentence."""

import pytest

from data.arguments import add_data_arguments
from models.lambda_attention import LambdaConfig
from scripts.harness.model_arguments import add_lambda_arguments, add_model_arguments, lambda_config
from scripts.streaming.arguments import StreamPlan, add_stream_arguments
from utils.arguments import HarnessParser, add_run_arguments, plan_of
from utils.errors import SharedError


def parse_stream(*flags):
    parser = HarnessParser("test")
    add_model_arguments(parser, longest_text="streaming_length")
    add_lambda_arguments(parser, longest_text="streaming_length")
    add_data_arguments(parser, seed=0)
    add_stream_arguments(parser)
    add_run_arguments(parser, log_dir="logs/test")
    return parser.parse_args(flags)


def test_the_published_command_of_the_endless_stream_parses():
    arguments = parse_stream(
        *"--deepspeed_config c.json --model M --tokenizer_path T --use_lambda_attention --local_branch 4096 "
        "--global_branch 10 --limit_distance 4096 --dataset the_pile --dataset_group ArXiv --split test "
        "--dataset_dir D --streaming_length 200000000 --max_length 128000 --start_data_from 2300 --log_dir L "
        "--local_rank=0".split()
    )
    assert lambda_config(vars(arguments)) == LambdaConfig(4096, 10, 4096)
    assert (arguments.streaming_length, arguments.max_length, arguments.start_data_from) == (200_000_000, 128_000, 2300)
    assert (arguments.seed, arguments.streams, arguments.document_separator) == (0, 1, "\\n\\n")


@pytest.mark.parametrize(
    "flags, words",
    [
        ("--streaming_length 1", "--streaming_length: must be at least 2"),
        ("--max_length 0", "--max_length: must be at least 1"),
        ("--save_steps 0", "--save_steps: must be at least 1"),
        ("--save_seconds 0", "--save_seconds: must be at least 1"),
        ("--max_seconds soon", "--max_seconds: must be a whole number"),
        ("--streams 0", "--streams: must be at least 1"),
        ("--streams two", "--streams: must be a whole number"),
        ("--document_separator=", "--document_separator is empty"),
        ("--truncation_side left", "unrecognized arguments: --truncation_side"),
        (
            "--use_lambda_attention --global_branch 64 --streaming_length 64",
            "--global_branch 64 is not smaller than --streaming_length 64",
        ),
    ],
)
def test_refusals_of_a_stream_name_the_flag(flags, words):
    with pytest.raises(SharedError) as refusal:
        parse_stream(*flags.split())
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "flags, steps, seconds",
    [
        ("", None, 60),
        ("--save_steps 10", 10, None),
        ("--save_seconds 5", None, 5),
        ("--save_steps 10 --save_seconds 5", 10, 5),
    ],
)
def test_checkpoints_are_by_time_unless_only_steps_are_given(flags, steps, seconds):
    plan = plan_of(StreamPlan, vars(parse_stream(*flags.split())))
    assert (plan.save_steps, plan.seconds_between_checkpoints) == (steps, seconds)


def test_a_chunk_may_be_smaller_than_the_global_branch():
    assert parse_stream("--use_lambda_attention", "--global_branch", "64", "--max_length", "1").max_length == 1
