"""Numbers and pictures that a report shows of the trials of each script.

A picture more is one `Picture(heading, how to read it, draw)` more in the tuple of its script.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from utils.trials.examples import example_trial
from utils.trials.experiments import DIAGNOSIS, DOWNSTREAM, GENERATION, LM_HARNESS, PERPLEXITY, STREAMS
from utils.trials.finished import FinishedTrial
from utils.trials.nll_trials import nll_trial
from visualization.drawing import costs, entropy, heatmap, logits, mass, nll, projection, scores
from visualization.drawing.diagnosis import Diagnosis
from visualization.drawing.looks import Loaded, named_by_method
from visualization.drawing.methods import Method, join_by_method, join_trials
from visualization.reporting.numbers import (
    Headline,
    Numbers,
    Table,
    diagnosis_headline,
    diagnosis_table,
    document_headline,
    document_table,
    generation_headline,
    generation_table,
    lm_eval_headline,
    lm_eval_table,
    stream_headline,
    stream_table,
    task_headline,
    task_table,
)

Evidence = Any
"""A trial as the pictures of its kind are drawn from it, read by `Kind.load`."""


@dataclass(frozen=True)
class Picture:
    """One figure that several trials of a kind share.

    reading: how to read it, in a few sentences. draw: of the trials, with `pretraining_length` to mark, None for that
    of each trial. shows: whether a trial has what it takes.
    """

    heading: str
    reading: str
    draw: Callable[..., Figure]
    shows: Callable[[Evidence], bool] = lambda trial: True


@dataclass(frozen=True)
class Kind:
    """Reading and showing of the trials of one script.

    measures: what they measure, in words. load: reads and checks, for a label, what pictures are drawn from. headline:
    the numbers of the comparison. breakdown: from results.json and its path, the numbers by position or the like.
    topic: only trials of the same one share a picture. together: the trials as they are drawn, and whether they are
    called by their methods.
    """

    measures: str
    load: Callable[[FinishedTrial, str], Evidence]
    headline: Callable[[FinishedTrial], Headline]
    breakdown: Callable[[Numbers, Path], Table]
    pictures: tuple[Picture, ...]
    together: Callable[[Sequence[Evidence], bool], list[Evidence]]
    topic: Callable[[Evidence], str] = lambda trial: ""


def _load_examples(trial: FinishedTrial, label: str) -> Method:
    return Method(label, (example_trial(trial),))


def _joined(methods: Sequence[Method], by_method: bool) -> list[Method]:
    """The trials of one method as one, or those of one label; UserError where these are not of one method."""
    join = join_by_method if by_method else join_trials
    return join([method.trials[0] for method in methods], [method.label for method in methods])


def _named(trials: Sequence[Loaded], by_method: bool) -> list[Loaded]:
    return named_by_method(trials) if by_method else list(trials)


def _hidden_states(trials: Sequence[Diagnosis], *, pretraining_length: int | None) -> Figure:
    """First positions lie within any pre-training length: there is none to mark."""
    return projection.draw(trials)


def _has_examples(method: Method) -> bool:
    return bool(method.samples)


def _has_depth(method: Method) -> bool:
    return any(sample["depth"] is not None for sample in method.samples)


NLL_OF_DOCUMENTS = Picture(
    "NLL against position, over documents",
    "A line is the NLL of the token at a position, averaged over a trial's documents and smoothed over "
    f"{nll.SMOOTHING} positions; lower is better. Where a line stays level past the mark, the model goes on past "
    "its pre-training length; where it rises, it fails there. The lower panel counts the documents that are so long: "
    "where few are left, a line shows those few.",
    nll.draw,
)
NLL_OF_STREAMS = Picture(
    "NLL against position, along a stream",
    "A line is the NLL of the tokens around a position, averaged over a trial's streams; lower is better, and level "
    "means that the model goes on however long the stream is. The axis of positions is logarithmic. What moves two "
    "lines of the same stream alike is the text, not the method.",
    nll.draw,
)
SCORE_BY_LENGTH = Picture(
    "Score by length",
    "A point is the score of the examples of about that length, a bar the 95 % interval of a proportion, else ± one "
    "standard error; higher is better. A line that falls past the mark, the pre-training length, is a method that does "
    "not carry on.",
    scores.draw,
    shows=_has_examples,
)
SCORE_BY_DEPTH = Picture(
    "Score by length and depth",
    "A cell is the mean score of the examples of one length whose answer stands at one depth, 0% being the start of "
    "the prompt. A column that is dark throughout is a length that the method fails at; dark rows are places "
    "that it does not see.",
    heatmap.draw,
    shows=_has_depth,
)
COST_BY_LENGTH = Picture(
    "Costs by length",
    "A point is the median over the texts of about that length, a bar reaches from the 10th to the 90th percentile; "
    "lower is better. What does not grow with the length costs the same however long the text is.",
    costs.draw,
    shows=_has_examples,
)
LOGITS = Picture(
    "Factor 1: attention logits against relative distance",
    "A line is the median over heads of the largest logit at a distance, a band holds 8 heads of 10. Logits that grow "
    "past the mark are of distances that the model has not been trained on; Λ-attention caps the distance, so it has "
    "none.",
    logits.draw,
)
ENTROPY = Picture(
    "Factor 2: entropy of attention against length",
    "A line is the median over heads of the entropy of a query's attention, in nats, as its context grows; a band "
    "holds 8 heads of 10, and log n is the entropy of attention to all tokens alike. Entropy that keeps growing is "
    "attention that is spread ever thinner.",
    entropy.draw,
)
HIDDEN_STATES = Picture(
    "Factor 3: hidden states by position",
    "A dot is the hidden state of one token, projected on the two directions in which they vary most. First tokens "
    "that lie apart from all others carry their position: a model that loses sight of them loses that.",
    _hidden_states,
)
MASS = Picture(
    "Where attention falls",
    "The share of attention on the first tokens, on the window of nearest tokens and on the middle between them, "
    "against length and, at the last position, by layer. The middle is what Λ-attention does not attend to.",
    mass.draw,
)

KINDS: dict[str, Kind] = {
    PERPLEXITY: Kind(
        "perplexity of documents", nll_trial, document_headline, document_table, (NLL_OF_DOCUMENTS,), _named
    ),
    STREAMS: Kind("NLL along a stream", nll_trial, stream_headline, stream_table, (NLL_OF_STREAMS,), _named),
    DOWNSTREAM: Kind(
        "a downstream task",
        _load_examples,
        task_headline,
        task_table,
        (SCORE_BY_LENGTH, SCORE_BY_DEPTH, COST_BY_LENGTH),
        _joined,
        topic=lambda method: method.trials[0].samples[0]["task"],
    ),
    GENERATION: Kind("generation", _load_examples, generation_headline, generation_table, (COST_BY_LENGTH,), _joined),
    LM_HARNESS: Kind("tasks of lm-eval", _load_examples, lm_eval_headline, lm_eval_table, (), _joined),
    DIAGNOSIS: Kind(
        "a diagnosis of attention",
        Diagnosis.of,
        diagnosis_headline,
        diagnosis_table,
        (LOGITS, ENTROPY, HIDDEN_STATES, MASS),
        _named,
    ),
}
