"""Flags: what is accepted, what is refused and with which sentence."""

import pytest
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from data.arguments import add_data_arguments, add_document_arguments
from models import get_model
from models.attention.bands.config import BandsConfig
from models.lambda_attention import LambdaConfig, TopK
from models.loading.rope_scaling import NTK
from scripts.harness import model_arguments, position_arguments
from scripts.harness.model_arguments import add_lambda_arguments, add_model_arguments, lambda_config
from utils.arguments import HarnessParser, add_run_arguments
from utils.errors import SharedError, UserError


def parse(*flags):
    parser = HarnessParser("test")
    add_model_arguments(parser)
    add_lambda_arguments(parser)
    add_data_arguments(parser)
    add_document_arguments(parser)
    add_run_arguments(parser, log_dir="logs/test")
    return parser.parse_args(flags)


def test_choices_are_those_of_the_models():
    assert {*position_arguments.STATIC, position_arguments.DYNAMIC} - {NTK} <= set(ROPE_INIT_FUNCTIONS)
    assert set(model_arguments.DTYPES) == set(get_model.DTYPES)


def test_the_published_command_parses():
    arguments = parse(
        *"--deepspeed_config c.json --model M --tokenizer_path T --use_lambda_attention --local_branch 4096 "
        "--global_branch 10 --limit_distance 4000 --dataset the_pile --dataset_group ArXiv --split test "
        "--dataset_dir D --max_length 32770 --log_dir L --start_data_from 3 --max_data_num 7 --batch_size 2 "
        "--truncation_side left --triangle_offset 0.5 --seed 5 --local_rank=1".split()
    )
    assert lambda_config(vars(arguments)) == LambdaConfig(4096, 10, 4000, triangle_offset=0.5)
    assert (arguments.max_length, arguments.seed, arguments.truncation_side) == (32770, 5, "left")


def test_aliases_of_other_harnesses():
    arguments = parse("--limit", "3", "--output_dir", "there")
    assert (arguments.max_data_num, arguments.log_dir) == (3, "there")


def test_lambda_defaults_are_the_published_ones():
    assert lambda_config(vars(parse("--use_lambda_attention"))) == LambdaConfig(2048, 100, 2048)
    assert lambda_config(vars(parse("--use_lambda_attention", "--local_branch", "64"))).limit_distance == 64
    assert lambda_config(vars(parse("--use_lambda_attention", "--limit_distance", "none"))).limit_distance is None
    assert lambda_config(vars(parse())) is None


def test_kernels_are_compiled_unless_told_otherwise():
    assert lambda_config(vars(parse("--use_lambda_attention"))).compiled
    assert not lambda_config(vars(parse("--use_lambda_attention", "--no_compile"))).compiled


def test_flash_has_no_limit_inside_the_window():
    flags = vars(parse(*"--use_lambda_attention --backend flash --local_branch 8 --limit_distance 5".split()))
    with pytest.raises(UserError, match="^--backend flash has no limit inside the window, and limit_distance 5 is"):
        lambda_config(flags)


def test_top_k_defaults():
    """All layers, at the limit, or at the end of the window where there is no limit; kept on the device."""
    top_k = "--use_lambda_attention --local_branch 64 --top_k_attention 5"
    assert lambda_config(vars(parse(*top_k.split()))).top_k == TopK(5, 32)
    assert lambda_config(vars(parse(*f"{top_k} --limit_distance 32".split()))).top_k == TopK(5, 16)
    assert lambda_config(vars(parse(*f"{top_k} --limit_distance none".split()))).top_k == TopK(5, 32)
    published = "--use_lambda_attention --local_branch 4096 --limit_distance 4096 --top_k_attention 5"
    assert lambda_config(vars(parse(*published.split()))).top_k.insert_at == 2048
    given = "--top_k_insert_at 7 --top_k_from_layer 4 --top_k_to_layer 9 --offload_middle"
    assert lambda_config(vars(parse(*f"{top_k} {given}".split()))).top_k == TopK(5, 7, 4, 9, offload=True)


def test_positions_inside_the_cache_have_no_limit():
    config = lambda_config(vars(parse("--use_lambda_attention", "--sink_positions", "cache")))
    assert config == LambdaConfig(2048, 100, None, sink_positions="cache")


def test_rope_scaling_has_a_factor():
    assert parse("--rope_scaling", "dynamic").rope_factor == 2
    assert parse("--rope_scaling", "linear", "--rope_factor", "4").rope_factor == 4
    assert parse().rope_factor is None


@pytest.mark.parametrize("scaling", position_arguments.STATIC)
def test_a_static_scaling_is_for_the_length_of_the_texts_unless_another_is_given(scaling):
    arguments = parse("--rope_scaling", scaling, "--max_length", "512")
    assert (arguments.rope_factor, arguments.target_length) == (None, 512)
    assert parse("--rope_scaling", scaling, "--max_length", "512", "--target_length", "9").target_length == 9
    arguments = parse("--rope_scaling", scaling, "--max_length", "512", "--rope_factor", "3")
    assert (arguments.rope_factor, arguments.target_length) == (3, None)


def test_moved_positions_make_a_config():
    flags = vars(
        parse(
            "--remap_positions", "self_extend", "--remap_group", "4", "--window_layers", "lambda", "--backend", "edges"
        )
    )
    assert lambda_config(flags) is None
    assert position_arguments.bands_config(flags) == BandsConfig(
        "self_extend", group=4, window_layers="lambda", backend="edges"
    )
    assert position_arguments.bands_config(vars(parse())) is None
    plan = model_arguments.model_plan(flags)
    assert plan.attention == BandsConfig("self_extend", group=4, window_layers="lambda", backend="edges")


def test_fp16_is_dtype_float16():
    assert parse("--fp16").dtype == "float16"


@pytest.mark.parametrize(
    "flags, words",
    [
        ("--use_lambda_attention --local_branch 0", "--local_branch: must be at least 1"),
        ("--use_lambda_attention --global_branch -1", "--global_branch: must be at least 0"),
        ("--use_lambda_attention --limit_distance far", "--limit_distance: must be a whole number"),
        ("--limit_distance 5", "--limit_distance needs --use_lambda_attention"),
        ("--triangle_offset 0", "--triangle_offset needs --use_lambda_attention"),
        ("--use_lambda_attention --backend fast", "--backend: invalid choice"),
        (
            "--use_lambda_attention --global_branch 10 --max_length 10",
            "--global_branch 10 is not smaller than",
        ),
        ("--dtype bfloat61", "; did you mean 'bfloat16'?"),
        ("--fp16 --dtype bfloat16", "--fp16 contradicts --dtype bfloat16"),
        ("--constant_answer 7", "--constant_answer is for --model constant_model"),
        ("--device_map auto --deepspeed_config c.json", "--device_map contradicts --deepspeed_config"),
        ("--top_k_attention 5", "--top_k_attention needs --use_lambda_attention"),
        ("--use_lambda_attention --offload_middle", "--offload_middle needs --top_k_attention"),
        ("--use_lambda_attention --top_k_from_layer 0", "--top_k_from_layer needs --top_k_attention"),
        (
            "--use_lambda_attention --top_k_attention 5 --top_k_from_layer 4 --top_k_to_layer 4",
            "--top_k_to_layer 4 is not beyond top_k_from_layer 4",
        ),
        ("--use_lambda_attention --top_k_attention 5 --triangle_offset 1", "--triangle_offset and top-k exclude"),
        (
            "--use_lambda_attention --sink_positions cache --limit_distance 9",
            "--sink_positions cache contradicts limit_distance 9",
        ),
        ("--rope_factor 3", "--rope_factor needs --rope_scaling"),
        ("--rope_scaling linear --rope_factor 0.5", "--rope_factor must be at least 1, not 0.5"),
        ("--rope_scaling dynamic --batch_size 2", "--batch_size must be 1 with --rope_scaling dynamic"),
        ("--rope_scaling yarn", "--rope_scaling yarn needs --target_length, for --max_length is not given"),
        ("--rope_scaling dynamic --target_length 9", "--target_length is for --rope_scaling linear, ntk, yarn"),
        ("--rope_scaling ntk --target_length 9 --rope_factor 2", "--target_length 9 contradicts --rope_factor 2"),
        ("--target_length 9", "--target_length needs --rope_scaling"),
        ("--remap_positions self", "--remap_positions: invalid choice: 'self'"),
        ("--remap_window 9", "--remap_window needs --remap_positions"),
        ("--remap_positions rerope --remap_group 2", "--remap_group is no parameter of rerope"),
        ("--remap_positions leaky_rerope --remap_factor 0.5", "--remap_factor must be at least 1"),
        ("--remap_positions dca --remap_chunk 4 --remap_window 5", "--remap_window 5 is more than remap_chunk 4"),
        ("--remap_positions dca --use_lambda_attention", "--remap_positions dca contradicts --use_lambda_attention"),
        (
            "--remap_positions dca --backend flex",
            "--backend flex does not attend to all tokens, as dca does: take auto, ",
        ),
        ("--max_length 1", "--max_length: must be at least 2"),
        ("--max_length 99999999999999999999", "--max_length: must be at most 1000000000000000000"),
        ("--truncation_side center", "--truncation_side: invalid choice"),
        ("--lim 3", "unrecognized arguments: --lim"),
        ("--gamma 3", "unrecognized arguments: --gamma"),
        ("--log_dir=", "--log_dir is empty"),
        ("--deepspeed_config=", "--deepspeed_config is empty"),
        ("--use_lambda_attention --triangle_offset nan", "--triangle_offset: must be a finite number, not nan"),
        ("--use_lambda_attention --triangle_offset inf", "--triangle_offset: must be a finite number"),
        ("--use_lambda_attention --triangle_offset x", "--triangle_offset: must be a number, not 'x'"),
        (
            "--use_lambda_attention --triangle_offset 1 --limit_distance none",
            "--triangle_offset needs a limit_distance",
        ),
    ],
)
def test_refusals_are_one_sentence_that_names_the_flag(flags, words):
    with pytest.raises(SharedError) as refusal:
        parse(*flags.split())
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("alias", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16"), ("half", "float16"), ("fp32", "float32")]
)
def test_precisions_have_short_names(alias, dtype):
    assert parse("--dtype", alias).dtype == dtype


def test_a_group_can_stand_alone():
    parser = HarnessParser("test")
    add_run_arguments(parser, log_dir="logs/test")
    assert parser.parse_args([]).log_dir == "logs/test"
