"""Synthetic trials that several pictures are drawn of."""

import pytest

from tests.utils.trials.trial_files import write_trial
from tests.visualization.diagnosis_files import write_diagnosis
from tests.visualization.example_files import lambda_flags, write_lengths
from tests.visualization.nll_files import documents
from tests.visualization.report_files import three_trials, written
from utils.trials.nll_trials import load_trial
from visualization.drawing.diagnosis import load_diagnoses

LENGTHS = (2000, 4000, 16000)


@pytest.fixture
def diagnosis_dirs(tmp_path):
    """Log dirs of a diagnosis of full attention and of one of Λ-attention."""
    names = {"vanilla": None, "lambda": 64}
    return [str(write_diagnosis(tmp_path / name, window=window)) for name, window in names.items()]


@pytest.fixture
def diagnoses(diagnosis_dirs):
    return load_diagnoses(diagnosis_dirs)


def fails_beyond(end):
    """Half of the answers beyond `end` tokens are wrong: the deeper ones."""
    return lambda length, depth: float(length <= end or depth < 0.5)


@pytest.fixture
def task_dirs(tmp_path):
    """Two methods at three lengths each, a trial for a length."""
    return [
        str(
            write_lengths(
                tmp_path / f"{name}-{length}", [length - 9, length], score=fails_beyond(end), max_length=length, **flags
            )
        )
        for name, end, flags in (("vanilla", 8192, {}), ("lambda", 10**6, lambda_flags()))
        for length in LENGTHS
    ]


@pytest.fixture
def nll_dirs(tmp_path):
    return [
        str(write_trial(tmp_path / name, documents([60, 60, 30], seed)))
        for seed, name in enumerate(["vanilla", "lambda"])
    ]


@pytest.fixture
def nll_trials(nll_dirs):
    return [load_trial(log_dir) for log_dir in nll_dirs]


@pytest.fixture(scope="session")
def report_page(tmp_path_factory):
    """The page of three trials, written once: pictures take their time."""
    with pytest.MonkeyPatch.context() as patch:
        return written(tmp_path_factory.mktemp("report"), patch)


@pytest.fixture
def report_dirs(tmp_path):
    return three_trials(tmp_path)
