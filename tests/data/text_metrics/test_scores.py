"""BLEU and ROUGE against published values, values worked out by hand, and the libraries beneath them."""

import math
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU

from data.generation_metrics import generation_overall_metric
from data.text_metrics import METRICS, ROUGE_TYPES, UNSEEN, describe_unseen
from data.text_metrics.bleu import Bleu, bleu_counts, corpus_bleu
from data.text_metrics.rouge import Rouge
from data.text_metrics.scores import generation_scores

ROOT = Path(__file__).resolve().parents[3]


def bleu(prediction, *references, **options):
    """Of one text."""
    return Bleu().compute(predictions=[prediction], references=[list(references)], **options)


def rouge(prediction, reference):
    """Of one text."""
    return Rouge().compute(predictions=[prediction], references=[reference])


def random_texts(number, words=("the", "cat", "sat,", "3.5"), seed=0):
    draw = random.Random(seed)
    return [" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(number)]


# The three examples on the metric's page, https://huggingface.co/spaces/evaluate-metric/bleu
PREDICTIONS = ["hello there general kenobi", "foo bar foobar"]


@pytest.mark.parametrize(
    "references, ratio, length",
    [
        ([["hello there general kenobi", "hello there !"], ["foo bar foobar"]], 1.1666666666666667, 6),
        ([["hello there general kenobi", "hello there!"], ["foo bar foobar"]], 1.1666666666666667, 6),
        ([["hello there general kenobi"], ["foo bar foobar"]], 1.0, 7),
        (["hello there general kenobi", "foo bar foobar"], 1.0, 7),
    ],
)
def test_bleu_as_published_with_the_metric(references, ratio, length):
    assert Bleu().compute(predictions=PREDICTIONS, references=references) == {
        "bleu": 1.0,
        "precisions": [1.0, 1.0, 1.0, 1.0],
        "brevity_penalty": 1.0,
        "length_ratio": ratio,
        "translation_length": 7,
        "reference_length": length,
    }


def test_bleu_of_the_papers_first_example():
    """NLTK publishes 0.5045666840058485 for the first candidate of Papineni et al., 2002, without its full stops."""
    references = (
        "It is a guide to action that ensures that the military will forever heed Party commands",
        "It is the guiding principle which guarantees the military forces always being under the command of the Party",
        "It is the practical guide for the army always to heed the directions of the party",
    )
    candidate = "It is a guide to action which ensures that the military always obeys the commands of the party"
    assert bleu(candidate, *references)["bleu"] == pytest.approx(0.5045666840058485, abs=1e-15)


def test_a_word_counts_as_often_as_one_reference_has_it():
    found = bleu("the the the the the the the", "the cat is on the mat .", "there is a cat on the mat .")
    assert found["precisions"] == [2 / 7, 0.0, 0.0, 0.0]  # 2/7 in the paper
    assert found["bleu"] == 0


def test_bleu_by_hand():
    found = bleu("a b c d e", "a b c d f g")
    assert found["precisions"] == [4 / 5, 3 / 4, 2 / 3, 1 / 2]
    assert found["brevity_penalty"] == pytest.approx(math.exp(-1 / 5))
    assert found["bleu"] == pytest.approx(0.2**0.25 * math.exp(-1 / 5))


def test_the_shortest_reference_counts_not_the_closest():
    found = bleu("a b c d e f", "a b c d e f g", "a b c")
    assert (found["reference_length"], found["brevity_penalty"]) == (3, 1.0)


def test_orders_can_be_left_out():
    assert bleu("a b x", "a b y", max_order=2)["bleu"] == pytest.approx((2 / 3 * 1 / 2) ** 0.5)


def test_counts_are_summed_over_the_corpus():
    """Not the mean over texts: the first has no 4-gram in common with its reference, and the second no 4-gram."""
    found = Bleu().compute(predictions=["a b c d x", "e f"], references=["a b c d y", "e f"])
    assert found["precisions"] == [6 / 7, 4 / 5, 2 / 3, 1 / 2]


@pytest.mark.parametrize(
    "prediction, reference, lengths", [("", "a b", (0, 2)), ("a b", "", (2, 0)), ("", "", (0, 0)), (" \n", "a", (0, 1))]
)
def test_nothing_generated_or_nothing_to_compare_with(prediction, reference, lengths):
    found = bleu(prediction, reference)
    assert (found["translation_length"], found["reference_length"]) == lengths
    assert found["bleu"] == found["brevity_penalty"] == found["length_ratio"] == 0
    assert set(rouge(prediction, reference).values()) == {0.0}


def test_texts_are_cut_as_mteval_cuts_them():
    assert bleu("Hello, world! It's 3.5 &amp; &quot;more&quot;", "x")["translation_length"] == 10
    assert bleu("broken-\nline", "brokenline")["precisions"][0] == 1
    assert bleu("the end-\n", "the end")["precisions"][0] == 1
    assert bleu("The", "the")["precisions"][0] == 0


def test_bleu_is_sacrebleus_where_there_is_one_reference():
    predictions, references = random_texts(40, seed=1), random_texts(40, seed=2)
    sacre = BLEU(smooth_method="none", force=True).corpus_score(predictions, [references])
    found = Bleu().compute(predictions=predictions, references=references)
    assert found["bleu"] * 100 == pytest.approx(sacre.score, rel=1e-12) and sacre.score > 1
    assert (found["translation_length"], found["reference_length"]) == (sacre.sys_len, sacre.ref_len)


def test_counts_are_sacrebleus_with_several_references():
    predictions, *references = (random_texts(30, seed=seed) for seed in range(4))
    sacre = BLEU(smooth_method="none", force=True).corpus_score(predictions, references)
    counts = bleu_counts(predictions, list(zip(*references))).sum(axis=0)
    assert counts[2:6].tolist() == sacre.counts and counts[6:].tolist() == sacre.totals


# Lin, 2004, sections 3.1 and 3.2
@pytest.mark.parametrize(
    "metric, prediction, reference, expected",
    [
        ("rougeL", "police kill the gunman", "police killed the gunman", 3 / 4),
        ("rougeL", "the gunman kill police", "police killed the gunman", 2 / 4),
        ("rouge2", "police kill the gunman", "police killed the gunman", 1 / 3),
        ("rougeLsum", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5", 2 * 0.4 * 0.8 / (0.4 + 0.8)),
        ("rouge1", "Testing, one two!", "testing", 2 * (1 / 3) / (1 / 3 + 1)),
    ],
)
def test_rouge_of_published_examples(metric, prediction, reference, expected):
    assert rouge(prediction, reference)[metric] == pytest.approx(expected)


def test_rouge_as_published_with_the_metric():
    texts = ["hello there", "general kenobi"]
    assert Rouge().compute(predictions=texts, references=texts) == dict.fromkeys(ROUGE_TYPES, 1.0)


def test_each_text_and_the_best_of_several_references():
    found = Rouge().compute(
        predictions=["hello goodbye", "ankh morpork"],
        references=[["farewell", "goodbye"], ["general", "kenobi"]],
        use_aggregator=False,
    )
    assert found["rouge1"] == [pytest.approx(2 / 3), 0.0] and found["rouge2"] == [0.0, 0.0]


def test_rouge_is_the_median_of_bootstrap_means():
    """As the published metric computes it, from the same random numbers."""
    predictions, references = random_texts(25, seed=3), random_texts(25, seed=4)
    scorer = RougeScorer(["rougeL"])
    scores = [scorer.score(*pair)["rougeL"].fmeasure for pair in zip(references, predictions)]
    draw = np.random.RandomState(7)
    means = [np.mean([scores[row] for row in draw.choice(np.arange(25), size=25)]) for _ in range(1000)]
    found = Rouge(seed=7).compute(predictions=predictions, references=references, rouge_types=["rougeL"])
    assert found == {"rougeL": pytest.approx(np.median(means), rel=1e-12)}


def test_the_same_texts_give_the_same_numbers_and_leave_other_random_numbers_alone():
    texts = {"predictions": random_texts(9, seed=5), "references": random_texts(9, seed=6)}
    np.random.seed(1)
    expected = np.random.random(2).tolist()
    np.random.seed(1)
    drawn = [np.random.random()]
    first = Rouge().compute(**texts)
    drawn.append(np.random.random())
    assert drawn == expected
    assert Rouge().compute(**texts) == first


@pytest.mark.parametrize("metric", [Bleu, Rouge])
def test_texts_can_be_added_in_batches(metric):
    predictions, references = random_texts(6, seed=7), random_texts(6, seed=8)
    batches = metric()
    batches.add_batch(predictions=predictions[:4], references=references[:4])
    for prediction, reference in zip(predictions[4:], references[4:]):
        batches.add(prediction=prediction, reference=reference)
    together = metric().compute(predictions=predictions, references=references)
    assert batches.compute() == together
    assert batches.compute(predictions=predictions, references=references) == together  # nothing is left of before


def test_neither_the_network_nor_the_users_cache_is_touched(tmp_path):
    """Offline without any variable that says so, with a home and a folder for temporary files that stay empty."""
    program = (
        "import socket\n"
        "def refuse(*_): raise AssertionError('the network was used')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from data.text_metrics.scores import generation_scores\n"
        "print(generation_scores(['a b c d', 'e'], ['a b c d', 'f'])['rouge1'])\n"
    )
    home, temporary = tmp_path / "home", tmp_path / "temporary"
    home.mkdir()
    temporary.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "XDG_"))}
    environment = kept | {"HOME": str(home), "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout == "0.5\n", done.stderr
    assert [*home.rglob("*"), *temporary.rglob("*")] == []


def test_scores_of_all_metrics_with_standard_errors():
    predictions, references = random_texts(30, seed=9), random_texts(30, seed=10)
    found = generation_scores(predictions, references)
    assert found.pop(UNSEEN) == 0
    assert list(found) == [name for metric in METRICS for name in (metric, f"{metric}_standard_error")]
    assert found["bleu"] == Bleu().compute(predictions=predictions, references=references)["bleu"] > 0
    assert found["rougeL"] == Rouge().compute(predictions=predictions, references=references)["rougeL"]
    scores = Rouge().compute(predictions=predictions, references=references, use_aggregator=False)["rougeL"]
    assert found["rougeL_standard_error"] == pytest.approx(np.std(scores, ddof=1) / 30**0.5)
    draw = random.Random(0)
    counts = bleu_counts(predictions, references)
    resampled = [corpus_bleu(counts[draw.choices(range(30), k=30)].sum(axis=0))["bleu"] for _ in range(1000)]
    assert found["bleu_standard_error"] == pytest.approx(np.std(resampled), rel=0.1)


def test_empty_generations_count_as_a_full_stop():
    """As the published script has it; a text that is not there would give 0.6065."""
    found = generation_scores(["a b c d e .", "a b c d e .", ""], ["a b c d e ."] * 3)
    assert found["bleu"] == pytest.approx(0.6807, abs=5e-5)
    published = generation_overall_metric(
        [
            {"generation_results": {64: {"generation": text, "target": "a b c d e ."}}}
            for text in ("a b c d e .", "a b c d e .", "")
        ],
        [64, 128],
    )
    assert published[64]["bleu"]["bleu"] == found["bleu"] and published[64]["rouge"]["rouge1"] == found["rouge1"]
    assert published[128] == {}


def test_one_text_has_no_standard_error_and_none_has_no_score():
    found = generation_scores(["a b c d"], ["a b c d"])
    assert found["bleu"] == 1 and found["bleu_standard_error"] is found["rougeL_standard_error"] is None
    none = generation_scores([], [])
    assert none.pop(UNSEEN) == 0 and set(none.values()) == {None}


@pytest.mark.parametrize(
    ("reference", "unseen"),
    [
        ("今天天气很好", 1),
        ("GPT 今天天气很好", 1),
        ("Привет, мир", 1),
        ("Un café près de l'église", 0),
        ("?", 0),
    ],
)
def test_texts_that_rouge_does_not_see_are_counted_and_said(reference, unseen):
    """Of identical Chinese texts ROUGE is 0."""
    scores = generation_scores([reference, "two words"], [reference, "two words"])
    assert scores[UNSEEN] == unseen
    said = describe_unseen(scores[UNSEEN])
    assert len(said) == unseen and all("sees less than half of 1 reference, and BLEU" in line for line in said)
