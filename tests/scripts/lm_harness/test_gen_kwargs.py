"""--gen_kwargs: what is refused before a model is loaded, and how a length is called."""

import pytest

from scripts.lm_harness.gen_kwargs import as_lm_eval_names, check_gen_kwargs
from utils.errors import UserError


@pytest.mark.parametrize(
    "given, words",
    [
        ({"nonsense": 1}, "'nonsense' is no argument of generation; give .* GenerationConfig$"),
        ({"temprature": 1}, r"'temprature' is no argument of generation.*; did you mean 'temperature'\?$"),
        ({"temperature": "hot", "do_sample": True}, "'temperature' must be a number of at least 0, not 'hot'"),
        ({"temperature": -1, "do_sample": True}, "'temperature' must be a number of at least 0, not -1"),
        ({"temperature": 0, "do_sample": True}, "'temperature' must be above 0 where 'do_sample' is true"),
        ({"temperature": float("nan")}, "'temperature' must be a number of at least 0"),
        ({"do_sample": "yes"}, "'do_sample' must be true or false, not 'yes'"),
        ({"max_gen_toks": -3}, "'max_gen_toks' must be a whole number of at least 1, not -3"),
        ({"max_new_tokens": True}, "'max_new_tokens' must be a whole number of at least 1, not True"),
        ({"max_gen_toks": 3, "max_new_tokens": 4}, "'max_gen_toks' and 'max_new_tokens' are the same argument"),
        ({"max_length": 9}, "'max_length' cannot be given, .* give max_gen_toks"),
        ({"num_return_sequences": 2}, "'num_return_sequences' cannot be given, lm-eval scores one answer"),
        ({"until": 5}, "'until' must be a text or a list of texts, not 5"),
        ({"until": ["a", 5]}, "'until' must be a text or a list of texts"),
        ({"top_p": 1.5}, "'top_p' must be a number from 0 to 1, not 1.5"),
        ({"top_k": 2.5}, "'top_k' must be a whole number of at least 0, not 2.5"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, words):
    with pytest.raises(UserError, match=f"--gen_kwargs: {words}"):
        check_gen_kwargs(given)


def test_what_lm_eval_and_transformers_know_is_taken():
    check_gen_kwargs({"until": [], "do_sample": True, "temperature": 0.5, "top_k": 0, "top_p": 1, "max_tokens": 5})
    check_gen_kwargs({"until": "a", "repetition_penalty": 1.2, "min_new_tokens": 2, "do_sample": False})


def test_a_length_has_the_name_that_counts_first_in_lm_eval():
    assert as_lm_eval_names({"max_new_tokens": 2, "top_k": 1}) == {"max_gen_toks": 2, "top_k": 1}
