"""Flags of rotary positions: how they are scaled, as Transformers does, or moved, as methods over all tokens do.

Nothing heavy is imported here, so `--help` and a wrong flag answer at once.
"""

from argparse import Namespace
from functools import partial
from typing import TYPE_CHECKING

from models.attention.settings import BACKENDS, REMAPPINGS, WINDOW_LAYERS
from utils.arguments import Flags, HarnessParser, finite_number, whole_number
from utils.errors import UserError

if TYPE_CHECKING:
    from models.attention.bands.config import BandsConfig

DYNAMIC = "dynamic"
STATIC = ("linear", "ntk", "yarn")
"""Scalings by a factor that does not depend on the text that is read."""
ROPE_FACTOR = 2.0
SCALING_ARGUMENTS = ("rope_factor", "target_length")
PARAMETERS = ("window", "group", "chunk", "factor", "log_scale")
REMAP_ARGUMENTS = tuple(f"remap_{name}" for name in PARAMETERS)


def add_scaling_arguments(parser: HarnessParser, longest_text: str) -> None:
    """How the model's rotary positions are scaled. longest_text: the flag that bounds a text's length."""
    group = parser.add_argument_group("scaled positions")
    group.add_argument(
        "--rope_scaling",
        choices=("linear", DYNAMIC, "ntk", "yarn"),
        help="scale the model's rotary positions as Transformers does: 'linear' is position interpolation, 'ntk' "
        "static and 'dynamic' dynamic NTK (default: the checkpoint's own)",
    )
    group.add_argument(
        "--rope_factor",
        type=finite_number,
        metavar="X",
        help="factor of --rope_scaling, at least 1 (default: by --target_length; of dynamic 2)",
    )
    group.add_argument(
        "--target_length",
        type=whole_number(1),
        metavar="TOKENS",
        help="length that linear, ntk and yarn are to reach: the factor is this over the model's pre-training length "
        f"(default: --{longest_text})",
    )
    parser.checks.append(partial(_check_scaling, longest_text=longest_text))


def add_remap_arguments(parser: HarnessParser) -> None:
    """Which method moves the positions of all tokens, and its parameters."""
    group = parser.add_argument_group("moved positions")
    group.add_argument(
        "--remap_positions",
        choices=REMAPPINGS,
        help="attend to all tokens, felt at other distances: SelfExtend, Dual Chunk Attention, ReRoPE or its leaky "
        "form; O(n²) time, a cache of all tokens (default: none)",
    )
    group.add_argument(
        "--remap_window",
        type=whole_number(1),
        metavar="TOKENS",
        help="nearest tokens that are felt where they are; of dca, those of the chunk before (default: a quarter of "
        "the pre-training length, of rerope and leaky_rerope an eighth, of dca a sixteenth and 1)",
    )
    group.add_argument(
        "--remap_group",
        type=whole_number(1),
        metavar="N",
        help="of self_extend: tokens beyond the window that share a position (default: 8)",
    )
    group.add_argument(
        "--remap_chunk",
        type=whole_number(2),
        metavar="TOKENS",
        help="of dca: length of a chunk (default: eleven sixteenths of the pre-training length)",
    )
    group.add_argument(
        "--remap_factor",
        type=finite_number,
        metavar="X",
        help="of leaky_rerope: distances beyond the window are divided by it (default: 16)",
    )
    group.add_argument(
        "--remap_log_scale",
        type=whole_number(0),
        metavar="TOKENS",
        help="of rerope and leaky_rerope: queries at i beyond so many are multiplied by log(i + 1) / log(TOKENS); 0 is "
        "never (default: the pre-training length)",
    )
    parser.checks.append(_check_remap)


def bands_config(flags: Flags) -> "BandsConfig | None":
    """The method that moves positions, None for none. Raises UserError on impossible values."""
    if flags.get("remap_positions") is None:
        return None
    from models.attention.bands.config import BandsConfig

    parameters = {name: flags[f"remap_{name}"] for name in PARAMETERS}
    shared = {
        "backend": flags.get("backend") or BACKENDS[0],
        "compiled": not flags.get("no_compile"),
        "window_layers": flags.get("window_layers") or WINDOW_LAYERS[0],
    }
    try:
        return BandsConfig(flags["remap_positions"], **parameters, **shared)
    except ValueError as error:
        raise UserError(f"--{error}") from None  # it begins with the field's name


def _check_scaling(arguments: Namespace, longest_text: str) -> None:
    scaling, factor, target = arguments.rope_scaling, arguments.rope_factor, arguments.target_length
    for name in SCALING_ARGUMENTS:
        if scaling is None and getattr(arguments, name) is not None:
            raise UserError(f"--{name} needs --rope_scaling: without it positions are not scaled")
    if factor is not None and factor < 1:
        raise UserError(f"--rope_factor must be at least 1, not {factor:g}")
    if scaling == DYNAMIC:
        _check_dynamic(arguments)
    elif scaling is not None and factor is None:
        arguments.target_length = getattr(arguments, longest_text, None) if target is None else target
        if arguments.target_length is None:
            raise UserError(f"--rope_scaling {scaling} needs --target_length, for --{longest_text} is not given")
    elif scaling is not None and target is not None:
        raise UserError(f"--target_length {target} contradicts --rope_factor {factor:g}: give one of them")


def _check_dynamic(arguments: Namespace) -> None:
    if arguments.target_length is not None:
        raise UserError(f"--target_length is for --rope_scaling {', '.join(STATIC)}: dynamic follows the text")
    if arguments.rope_factor is None:
        arguments.rope_factor = ROPE_FACTOR
    fixed = getattr(arguments, "use_lambda_attention", False)  # the frequencies are then those of the limit
    if not fixed and getattr(arguments, "batch_size", 1) > 1:
        raise UserError(
            "--batch_size must be 1 with --rope_scaling dynamic: the longest text of a batch would decide how far the "
            "others are scaled"
        )


def _check_remap(arguments: Namespace) -> None:
    if arguments.remap_positions is None:
        for name in REMAP_ARGUMENTS:
            if getattr(arguments, name) is not None:
                raise UserError(f"--{name} needs --remap_positions: without it positions stay where they are")
        return
    if getattr(arguments, "use_lambda_attention", False):
        raise UserError(
            f"--remap_positions {arguments.remap_positions} contradicts --use_lambda_attention: each is a method of "
            "its own, give one of them"
        )
    bands_config(vars(arguments))  # which knows which parameters a method has
