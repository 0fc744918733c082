"""Flags of models and of Λ-attention, and the plan of a model that they make.

Nothing heavy is imported here, so `--help` and a wrong flag answer at once.
"""

from argparse import Namespace
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from models.attention.settings import BACKENDS, NO_OFFSET, SINK_POSITIONS, WINDOW_LAYERS
from scripts.harness.position_arguments import add_remap_arguments, add_scaling_arguments, bands_config
from utils.arguments import Flags, HarnessParser, finite_number, plan_of, whole_number
from utils.errors import UserError
from utils.trials.methods import NO_CAP

if TYPE_CHECKING:
    from models.attention.config import Method
    from models.get_model import ModelSpec
    from models.lambda_attention import LambdaConfig, TopK

LAMBDA_DEFAULTS: dict[str, Any] = {
    "local_branch": 2048,
    "global_branch": 100,
    "limit_distance": None,
    "triangle_offset": NO_OFFSET,
    "backend": BACKENDS[0],
    "sink_positions": SINK_POSITIONS[0],
    "window_layers": WINDOW_LAYERS[0],
}
TOP_K_DEFAULTS: dict[str, Any] = {
    "top_k_insert_at": None,
    "top_k_from_layer": 0,
    "top_k_to_layer": None,
    "offload_middle": False,
}
LAMBDA_ARGUMENTS = (*LAMBDA_DEFAULTS, "top_k_attention", *TOP_K_DEFAULTS)
OF_REMAPPINGS = frozenset({"backend", "window_layers"})
"""Those that methods with moved positions have, too."""
DTYPES = ("auto", "float32", "bfloat16", "float16")
DTYPE_ALIASES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "half": "float16"}


@dataclass(frozen=True)
class ModelPlan:
    """Which model is loaded, and how it runs.

    attention: the method that it is converted to, Λ-attention or another, None for a vanilla model. deepspeed_config: a
    JSON file, None without DeepSpeed. compiled: whether torch.compile may be used on a GPU.
    """

    spec: "ModelSpec"
    attention: "Method | None" = None
    deepspeed_config: str | None = None
    compiled: bool = True


def distance(text: str) -> int | str:
    """An argparse type: a distance of at least 1 token, or 'none' for no cap."""
    return NO_CAP if text.lower() == NO_CAP else whole_number(1)(text)


def add_model_arguments(parser: HarnessParser, longest_text: str = "max_length") -> None:
    """Which model to load, in which precision, and at which positions it feels its tokens.

    longest_text: the flag that bounds a text's length, up to which positions are scaled.
    """
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model",
        default="smollm2",
        metavar="NAME",
        help="'smollm2' (the sample), a local folder, a .gguf file, a name on the Hugging Face hub, or "
        "'constant_model' (default: %(default)s)",
    )
    group.add_argument("--tokenizer_path", metavar="NAME", help="tokenizer folder or name (default: the model's)")
    group.add_argument(
        "--dtype",
        type=_dtype,
        choices=DTYPES,
        default="auto",
        help="precision of the weights, also as bf16, fp16, half or fp32 (default: auto, the checkpoint's own)",
    )
    group.add_argument("--fp16", action="store_true", help="the same as --dtype float16")
    group.add_argument(
        "--no_compile",
        action="store_true",
        help="use no torch.compile on CUDA: the first chunk begins sooner, and each takes longer; without flex",
    )
    group.add_argument("--load_in_4bit", action="store_true", help="quantize the weights to 4 bits while loading")
    group.add_argument(
        "--device_map", metavar="MAP", help="spread one model over devices, as in Transformers: auto, ..."
    )
    group.add_argument("--constant_answer", metavar="TEXT", help="what --model constant_model always says")
    parser.checks.append(_check_model)
    parser.look_ups.append(_find_model)
    add_scaling_arguments(parser, longest_text)
    add_remap_arguments(parser)


def add_lambda_arguments(parser: HarnessParser, longest_text: str = "max_length") -> None:
    """Λ-attention's settings; they stay None unless --use_lambda_attention is given.

    longest_text: the flag that bounds a text's length, which the global branch must not reach.
    """
    group = parser.add_argument_group("Λ-attention")
    group.add_argument("--use_lambda_attention", action="store_true", help="convert the model to Λ-attention")
    group.add_argument(
        "--local_branch",
        type=whole_number(1),
        metavar="TOKENS",
        help="length of the sliding window (default: 2048)",
    )
    group.add_argument(
        "--global_branch",
        type=whole_number(0),
        metavar="TOKENS",
        help="how many of the first tokens every token attends to (default: 100)",
    )
    group.add_argument(
        "--limit_distance",
        type=distance,
        metavar="TOKENS",
        help="cap on the distance that positions encode, or 'none' (default: --local_branch)",
    )
    group.add_argument(
        "--triangle_offset",
        type=finite_number,
        metavar="X",
        help="not 0: also attend to the tokens in between, with X * log(their number) taken off; O(n²) time "
        "(default: 0)",
    )
    group.add_argument(
        "--backend",
        choices=BACKENDS,
        help="'flash' (torch's flash attention with a window, for CUDA), 'flex' (torch's flex_attention, for CUDA), "
        "'edges' (torch's fused attention, for the CPU), 'blockwise' (matrix products, any device) or 'onednn' (the "
        "same by oneDNN, for the CPU); with moved positions edges or blockwise (default: auto, on a GPU the first of "
        "them that it and the model allow, on the CPU the fastest one, measured; the log says which, and why)",
    )
    group.add_argument(
        "--sink_positions",
        choices=SINK_POSITIONS,
        help="where the first tokens stand for a token whose window is past them: in the 'text', capped, or in the "
        "'cache', as if nothing lay between, without a cap, as in StreamingLLM (default: text)",
    )
    group.add_argument(
        "--window_layers",
        choices=WINDOW_LAYERS,
        help="layers that have a window, or chunks, of their own, shorter than --local_branch: leave them as they are "
        "('own'), or give them Λ-attention like all others ('lambda') (default: own; the log says which layers are "
        "which)",
    )
    _add_top_k_arguments(parser)
    parser.checks.append(partial(_check_lambda, longest_text=longest_text))


def _add_top_k_arguments(parser: HarnessParser) -> None:
    group = parser.add_argument_group("top-k attention")
    group.add_argument(
        "--top_k_attention",
        type=whole_number(1),
        metavar="K",
        help="the last token of a forward, so every generated one, also attends to the K tokens in between that score "
        "highest, per head; the cache then keeps all tokens (default: none)",
    )
    group.add_argument(
        "--top_k_insert_at",
        type=whole_number(0),
        metavar="TOKENS",
        help="distance at which they are scored and felt (default: half of --limit_distance, as published; half of "
        "--local_branch if that is none)",
    )
    group.add_argument(
        "--top_k_from_layer", type=whole_number(0), metavar="N", help="first layer that does so (default: 0)"
    )
    group.add_argument(
        "--top_k_to_layer", type=whole_number(1), metavar="N", help="first layer that no longer does (default: all do)"
    )
    group.add_argument(
        "--offload_middle",
        action="store_true",
        default=None,
        help="keep the tokens for it in host memory, and search them there",
    )


def model_plan(flags: Flags) -> ModelPlan:
    """The model that the flags ask for. Raises UserError on impossible values."""
    from models.get_model import ModelSpec

    compiled = not flags.get("no_compile")
    attention = lambda_config(flags) or bands_config(flags)
    return ModelPlan(plan_of(ModelSpec, flags), attention, flags["deepspeed_config"], compiled)


def lambda_config(flags: Flags) -> "LambdaConfig | None":
    """The Λ-attention asked for, None for a vanilla model. Raises UserError on impossible values."""
    if not flags["use_lambda_attention"]:
        return None
    from models.lambda_attention import LambdaConfig

    settings = {name: flags[name] for name in LAMBDA_DEFAULTS}
    if settings["limit_distance"] == NO_CAP:
        settings["limit_distance"] = None
    try:
        return LambdaConfig(**settings, top_k=_top_k(flags), compiled=not flags.get("no_compile"))
    except ValueError as error:
        raise UserError(f"--{error}") from None  # it begins with the field's name


def _top_k(flags: Flags) -> "TopK | None":
    """Raises ValueError on impossible values."""
    from models.lambda_attention import TopK

    if flags["top_k_attention"] is None:
        return None
    names = ("top_k_attention", "top_k_insert_at", "top_k_from_layer", "top_k_to_layer", "offload_middle")
    return TopK(*(flags[name] for name in names))


def _dtype(name: str) -> str:
    """An argparse type: a precision by one of its names."""
    return DTYPE_ALIASES.get(name, name)


def _find_model(arguments: Namespace) -> None:
    """Raises UserError where a name can be none of a model's. A name of the hub is not asked for."""
    from models.loading.source import find_source

    for flag in ("model", "tokenizer_path"):
        if getattr(arguments, flag) is not None:
            find_source(f"--{flag}", getattr(arguments, flag))


def _check_model(arguments: Namespace) -> None:
    if arguments.fp16:
        if arguments.dtype not in ("auto", "float16"):
            raise UserError(f"--fp16 contradicts --dtype {arguments.dtype}: give one of them")
        arguments.dtype = "float16"
    if arguments.constant_answer is not None and arguments.model != "constant_model":
        raise UserError("--constant_answer is for --model constant_model only")


def _check_lambda(arguments: Namespace, longest_text: str) -> None:
    given = [name for name in LAMBDA_ARGUMENTS if getattr(arguments, name) is not None]
    if not arguments.use_lambda_attention:
        if arguments.remap_positions:
            given = [name for name in given if name not in OF_REMAPPINGS]
        if given:
            raise UserError(f"--{given[0]} needs --use_lambda_attention: without it the model is not changed")
        return
    for name, default in LAMBDA_DEFAULTS.items():
        if name not in given:
            setattr(arguments, name, default)
    if arguments.limit_distance is None:
        arguments.limit_distance = NO_CAP if arguments.sink_positions == "cache" else arguments.local_branch
    _fill_top_k(arguments)
    length = getattr(arguments, longest_text, None)
    if length is not None and arguments.global_branch >= length:
        raise UserError(
            f"--global_branch {arguments.global_branch} is not smaller than --{longest_text} {length}: every "
            "token would be global, so give a smaller one"
        )
    if arguments.triangle_offset or arguments.top_k_attention or arguments.sink_positions == "cache":
        lambda_config(vars(arguments))  # which knows what they cannot be combined with


def _fill_top_k(arguments: Namespace) -> None:
    if arguments.top_k_attention is None:
        for name in TOP_K_DEFAULTS:
            if getattr(arguments, name) is not None:
                raise UserError(f"--{name} needs --top_k_attention: without it no token in between is attended to")
        return
    nearest_limit = arguments.local_branch if arguments.limit_distance == NO_CAP else arguments.limit_distance
    for name, default in {**TOP_K_DEFAULTS, "top_k_insert_at": nearest_limit // 2}.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
