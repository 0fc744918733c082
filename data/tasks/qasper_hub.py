"""Qasper's papers from the Hugging Face hub, as its published files have them.

The hub's own conversion to Parquet is read: the data set's code never runs. There the sections, questions and answers
of a paper are columns of lists, where the files have lists of objects.
"""

from typing import Any

from data.sources.hugging_face import load

NAME, REVISION = "allenai/qasper", "refs/convert/parquet"
SPLITS = {"train": "train", "dev": "validation", "test": "test"}


def load_papers(dataset: str, split: str, files: str) -> dict[str, Any]:
    """The papers of a split by id, downloaded on first use. Raises UserError.

    split: as the files are named. files: those that --dataset_dir could have, for the error.
    """
    failure = (
        f"--dataset {dataset} without --dataset_dir asks the Hugging Face hub, and {NAME} cannot be loaded from it "
        f"(download {files} and give its folder as --dataset_dir)"
    )
    table = load(failure, lambda datasets: datasets.load_dataset(NAME, split=SPLITS[split], revision=REVISION))
    return {row["id"]: _paper(row) for row in table}


def _paper(row: dict[str, Any]) -> dict[str, Any]:
    questions = [{**question, "answers": _objects(question["answers"])} for question in _objects(row["qas"])]
    return {"full_text": _objects(row["full_text"]), "qas": questions}


def _objects(columns: dict[str, list] | list[dict]) -> list[dict[str, Any]]:
    """Objects from columns of one length: {"a": [1, 2]} is [{"a": 1}, {"a": 2}]."""
    if isinstance(columns, list):
        return columns
    return [dict(zip(columns, values)) for values in zip(*columns.values(), strict=True)]
