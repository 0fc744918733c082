"""Methods by name: the flags that each stands for on each script, and what contradicts it."""

import pytest

from data.arguments import add_data_arguments, add_document_arguments
from models.get_model import ModelSpec
from models.lambda_attention import LambdaConfig, TopK
from scripts.downstream.arguments import add_task_arguments
from scripts.generation.arguments import add_generation_arguments, add_position_arguments
from scripts.harness.methods import add_method_arguments
from scripts.harness.model_arguments import add_lambda_arguments, add_model_arguments, lambda_config
from scripts.lm_harness.arguments import add_lm_eval_arguments
from scripts.streaming.arguments import add_stream_arguments
from utils.arguments import HarnessParser, plan_of
from utils.errors import SharedError
from utils.trials.experiments import EXPERIMENTS
from utils.trials.methods import METHODS

GROUPS = {
    "eval_ppl_deepspeed": [add_data_arguments, add_document_arguments],
    "diagnose": [add_data_arguments, add_document_arguments],
    "eval_infinite_ppl": [add_data_arguments, add_stream_arguments],
    "eval_generation": [add_data_arguments, add_document_arguments, add_position_arguments, add_generation_arguments],
    "eval_downstream_tasks": [add_task_arguments, add_generation_arguments],
    "eval_lm_harness": [add_lm_eval_arguments],
}
REQUIRED = {"eval_lm_harness": ["--tasks", "one"]}
LAMBDA = "--use_lambda_attention"
SAME_EVERYWHERE = {
    "vanilla": "",
    "window": f"{LAMBDA} --global_branch 0",
    "lambda_mask": f"{LAMBDA} --limit_distance none",
    "streaming_llm": f"{LAMBDA} --global_branch 4 --sink_positions cache",
    "lm_infinite": LAMBDA,
}
DYNAMIC = {"dynamic_ntk": "--rope_scaling dynamic --rope_factor 2"}
STATIC = {"pi": "--rope_scaling linear", "ntk": "--rope_scaling ntk", "yarn": "--rope_scaling yarn"}
STATIC = {name: f"{flags} --target_length 9000" for name, flags in STATIC.items()}
MOVED = {name: f"--remap_positions {name}" for name in ("self_extend", "dca", "rerope", "leaky_rerope")}
SAME_EVERYWHERE |= STATIC | MOVED
TOP_K = {"lm_infinite_top_k": f"{LAMBDA} --top_k_attention 5 --top_k_insert_at 1024 --top_k_from_layer 4"}
LAST_TOKENS = {"truncate": "--max_length 2048 --truncation_side left"}
LAST_OF_A_REQUEST = {"truncate": "--max_length 2048"}
LAST_OF_A_PROMPT = {"truncate": "--runtime_truncation 2048"}
STANDS_FOR = {
    "eval_ppl_deepspeed": SAME_EVERYWHERE | DYNAMIC | LAST_TOKENS,
    "diagnose": SAME_EVERYWHERE | DYNAMIC | LAST_TOKENS,
    "eval_infinite_ppl": SAME_EVERYWHERE,
    "eval_generation": SAME_EVERYWHERE | DYNAMIC | TOP_K | LAST_OF_A_PROMPT,
    "eval_downstream_tasks": SAME_EVERYWHERE | DYNAMIC | TOP_K | LAST_OF_A_PROMPT,
    "eval_lm_harness": SAME_EVERYWHERE | DYNAMIC | TOP_K | LAST_OF_A_REQUEST,
}


def parse(flags: str, script: str = "eval_generation"):
    parser = HarnessParser("test")
    for add_group in (add_model_arguments, add_lambda_arguments, *GROUPS[script]):
        add_group(parser)
    add_method_arguments(parser, script)
    return parser.parse_args([*flags.split(), *REQUIRED.get(script, [])])


def recorded(flags: str, script: str) -> dict:
    """What config.json says, but for the name itself."""
    return {name: value for name, value in vars(parse(flags, script)).items() if name != "method"}


def refusal(flags: str, script: str = "eval_generation") -> str:
    with pytest.raises(SharedError) as error:
        parse(flags, script)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("script", EXPERIMENTS)
def test_a_name_is_the_same_trial_as_the_flags_it_stands_for(script):
    for method, flags in STANDS_FOR[script].items():
        needed = "--target_length 9000" if method in STATIC else ""
        assert recorded(f"--method {method} {needed}", script) == recorded(flags, script), method


def test_every_method_is_either_taken_or_refused_with_a_reason():
    for script, methods in STANDS_FOR.items():
        for method in METHODS.keys() - methods.keys():
            assert f"--method {method} is not for this script: " in refusal(f"--method {method}", script)
    assert GROUPS.keys() == EXPERIMENTS.keys()


def test_flags_that_are_given_count():
    config = lambda_config(vars(parse("--method streaming_llm --local_branch 64 --global_branch 7")))
    assert config == LambdaConfig(64, 7, None, sink_positions="cache")
    config = lambda_config(
        vars(parse("--method lm_infinite_top_k --local_branch 64 --top_k_from_layer 0 --offload_middle"))
    )
    assert config == LambdaConfig(64, 100, 64, top_k=TopK(5, 32, offload=True))
    assert parse("--method truncate --local_branch 64").runtime_truncation == 64
    assert recorded("--method truncate --local_branch 64", "eval_ppl_deepspeed") == recorded(
        "--max_length 64 --truncation_side left", "eval_ppl_deepspeed"
    )
    spec = plan_of(ModelSpec, vars(parse("--method dynamic_ntk --rope_factor 4")))
    assert (spec.rope_scaling, spec.rope_factor) == ("dynamic", 4.0)


def test_flags_that_say_the_same_are_no_contradiction():
    flags = "--use_lambda_attention --global_branch 0 --sink_positions=text"
    assert recorded(f"--method window {flags}", "eval_generation") == recorded(flags, "eval_generation")


@pytest.mark.parametrize(
    "flags, words",
    [
        ("--method window --global_branch 10", "--global_branch 10 contradicts --method window"),
        ("--method window --global_branch=10", "which stands for --global_branch 0"),
        ("--method vanilla --use_lambda_attention", "--use_lambda_attention contradicts --method vanilla"),
        ("--method vanilla --local_branch 8", "--local_branch 8 contradicts --method vanilla"),
        ("--method vanilla --offload_middle", "--offload_middle contradicts --method vanilla"),
        ("--method vanilla --rope_scaling linear", "stands for no --rope_scaling"),
        ("--method vanilla --remap_positions dca", "--remap_positions dca contradicts --method vanilla"),
        ("--method lm_infinite --remap_positions dca", "stands for no --remap_positions"),
        ("--method rerope --remap_positions dca", "which stands for --remap_positions rerope"),
        ("--method rerope --local_branch 5", "--local_branch 5 contradicts --method rerope"),
        ("--method yarn --rope_scaling ntk", "which stands for --rope_scaling yarn"),
        ("--method yarn", "--rope_scaling yarn needs --target_length"),
        ("--method vanilla --remap_window 5", "--remap_window needs --remap_positions"),
        ("--method truncate --runtime_truncation 64", "contradicts --method truncate, which stands for --runtime_tr"),
        ("--method truncate --global_branch 4", "--global_branch 4 contradicts --method truncate"),
        ("--method truncate --local_branch 1", "--local_branch 1 is too short"),
        ("--method streaming_llm --limit_distance 9", "--limit_distance 9 contradicts --method streaming_llm"),
        ("--method streaming_llm --global_branch 0", "--global_branch 0 contradicts --method streaming_llm"),
        ("--method lambda_mask --limit_distance 9", "which stands for --limit_distance none"),
        ("--method lm_infinite --limit_distance none", "it is another method"),
        ("--method lm_infinite --top_k_attention 5", "--top_k_attention 5 contradicts --method lm_infinite"),
        ("--method dynamic_ntk --rope_scaling linear", "--rope_scaling linear contradicts --method dynamic_ntk"),
        ("--method dynamic_ntk --batch_size 2", "--batch_size must be 1 with --rope_scaling dynamic"),
        ("--method infinite", "invalid choice: 'infinite'"),
    ],
)
def test_contradictions_are_one_sentence_that_names_both(flags, words):
    assert words in refusal(flags)


@pytest.mark.parametrize("script", ["eval_ppl_deepspeed", "eval_infinite_ppl"])
def test_top_k_is_refused_where_every_token_is_scored(script):
    assert "--top_k_attention 3 is not for this script" in refusal(f"{LAMBDA} --top_k_attention 3", script)
