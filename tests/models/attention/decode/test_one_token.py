"""One decoded token does little besides its products, and every layer after the first shares what it follows from."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from models.attention.decode.cache import LambdaLayer
from models.lambda_attention import LambdaConfig, lambda_attention
from tests.models.attention.attention_cases import make_case

CONFIG = LambdaConfig(8, 3, 8)
VIEWS = ("view", "transpose", "split", "slice", "unsqueeze", "narrow", "_reshape_alias", "as_strided", "expand")


class _Operations(TorchDispatchMode):
    """Names of what ran and was no view."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if not name.startswith(VIEWS):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def operations(dtype: torch.dtype, encoding: str) -> tuple[list[str], list[str]]:
    """Of the first and of the second layer that a token beyond the window goes through."""
    case = make_case(CONFIG, 31, encoding, key_heads=2, group=2, dtype=dtype)
    caches, found = [LambdaLayer(CONFIG), LambdaLayer(CONFIG)], []
    for cache in caches:
        case.attend(slice(0, 30), cache)
    for cache in caches:
        with torch.no_grad(), _Operations() as counted:
            case.attend(slice(30, 31), cache)
        found.append(counted.names)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("dtype", "encoding", "most"),
    [
        (torch.float32, "rotary", 13),
        (torch.float32, "alibi", 11),
        (torch.bfloat16, "rotary", 19),
        (torch.bfloat16, "alibi", 16),
    ],
)
def test_a_layer_runs_few_operations(dtype, encoding, most):
    _, second = operations(dtype, encoding)
    assert second.count("bmm") == 4
    assert len(second) <= most, second


def test_what_follows_from_the_positions_is_made_by_the_first_layer_alone():
    first, second = operations(torch.float32, "rotary")
    made = {"arange", "cos", "sin", "remainder"}
    assert made <= set(first) and not made & set(second)


def test_models_with_other_heads_or_positions_do_not_share_a_step():
    """Two cases at one position, one after the other: the second is not answered with what the first made."""
    for encoding, group in (("rotary", 1), ("interleaved", 1), ("alibi", 1), ("alibi", 3), ("rotary", 3)):
        case = make_case(CONFIG, 31, encoding, group=group)
        cache = LambdaLayer(CONFIG)
        case.attend(slice(0, 30), cache)
        newest = lambda_attention(*(x[:, :, 30:] for x in (case.query, case.key, case.value)), case.layer, cache)
        torch.testing.assert_close(newest.double(), case.expected()[:, :, 30:], rtol=0, atol=2e-6)
