"""Names that are nearly right."""

import pytest

from data.get_data import get_data
from data.tasks.registry import get_task
from models.errors import did_you_mean
from models.lambda_attention import LambdaConfig
from models.loading.source import find_source
from utils.errors import UserError


def test_the_closest_name_is_asked_after_and_a_far_one_is_not():
    assert did_you_mean("passkey_retrival", ["qasper", "passkey_retrieval"]) == "; did you mean 'passkey_retrieval'?"
    assert did_you_mean("wikitext", ["qasper", "plays"]) == ""


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda: get_task("ruler/v"), "ruler/vt"),
        (lambda: get_data("playes"), "plays"),
        (lambda: find_source("--model", ".smollm2"), "smollm2"),
    ],
    ids=["task", "data set", "model"],
)
def test_everywhere_that_a_name_is_looked_up(call, meant):
    with pytest.raises(UserError, match=rf"did you mean '{meant}'\?$"):
        call()


def test_a_configuration_has_the_drop_ins_limit():
    assert LambdaConfig(128, 10) == LambdaConfig(128, 10, 128) != LambdaConfig(128, 10, None)
    assert LambdaConfig.from_dict(LambdaConfig(128, 10).to_dict()) == LambdaConfig(128, 10)
