"""What a diagnosis makes of its documents: moments, components, headline numbers."""

import json

import numpy as np
import pytest
from sklearn.decomposition import PCA

from models.diagnosis.plan import Plan
from scripts.diagnosis.documents import DocumentFiles
from scripts.diagnosis.report import describe, summarise
from scripts.diagnosis.summary import Moments, summarise_documents
from scripts.harness.journal import Journal
from utils.errors import UserError
from utils.trials.diagnosis_arrays import COMPONENTS, MOMENTS, STATISTICS, relative_entropy
from utils.trials.trial import Trial

LAYERS, HEADS, BINS, HIDDEN, WIDTH = 2, 3, 4, 9, 6
PLAN = Plan(5, np.array([0, 4, 8, 12, 16]), np.array([0, 3, 7, 11, 15]), first_tokens=2, window=4, num_hidden=HIDDEN)


def document(seed, tokens=16):
    """Random arrays of one document, as `Measurement.arrays` gives them."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name in STATISTICS:
        places = BINS if name.startswith("logit") else len(PLAN.positions)
        arrays[name] = random.random((LAYERS, HEADS, places), dtype=np.float32)
        reached = (PLAN.distance_edges[:-1] if name.startswith("logit") else PLAN.positions) < tokens
        arrays[name][..., ~reached] = np.nan
    arrays["attended"] = np.where(PLAN.positions < tokens, PLAN.positions + 1, 0)[None].repeat(LAYERS, 0)
    hidden = random.normal(size=(LAYERS, min(HIDDEN, tokens), WIDTH)) * np.arange(WIDTH, 0, -1)
    return arrays | {"hidden": hidden.astype(np.float32)}


@pytest.fixture
def files(tmp_path):
    return DocumentFiles(tmp_path)


@pytest.fixture
def journal(tmp_path, files):
    """Three documents that are measured, the second of 10 tokens."""
    journal = Journal(Trial(tmp_path), files.path)
    for index, tokens in enumerate((16, 10, 16)):
        files.save(index, document(index, tokens))
        journal.commit([{"index": index, "id": str(index), "tokens": tokens, "rank": 0}], 2.0, 100 + index)
    return journal


def test_moments_are_those_over_the_documents_that_have_a_number():
    values = np.random.default_rng(0).normal(1000, 1, size=(6, 3, 4))
    values[:5, 0, 0] = np.nan
    values[:, 0, 1] = np.nan
    moments = Moments()
    for row in values.astype(np.float32):
        moments.add(row)
    found = moments.arrays("x")
    assert set(found) == {f"x_{name}" for name in MOMENTS}
    assert found["x_count"][0].tolist() == [1, 0, 6, 6]
    there = values[:, 1:].astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(found["x_mean"][1:], there.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found["x_deviation"][1:], there.std(0, ddof=1), rtol=1e-9)
    np.testing.assert_array_equal(found["x_largest"][1:], there.max(0))
    assert found["x_mean"][0, 0] == pytest.approx(values[5, 0, 0]) and np.isnan(found["x_deviation"][0, 0])
    assert np.isnan([found[f"x_{name}"][0, 1] for name in ("mean", "deviation", "largest")]).all()


def test_documents_add_up_in_any_order_and_short_ones_where_they_reach(journal, files):
    arrays = summarise_documents(files, [0, 1, 2], PLAN, [0, 5])
    again = summarise_documents(files, [2, 0, 1], PLAN, [0, 5])
    for name, values in arrays.items():
        np.testing.assert_array_equal(values, again[name], err_msg=name)
        assert values.dtype != object
    documents = [document(index, tokens) for index, tokens in enumerate((16, 10, 16))]
    assert arrays["entropy_count"][0, 0].tolist() == [3, 3, 3, 2, 2]
    assert arrays["logit_max_count"][1, 2].tolist() == [3, 3, 3, 2]
    expected = np.mean([documents[0]["entropy"][:, :, 4], documents[2]["entropy"][:, :, 4]], 0, dtype=np.float64)
    np.testing.assert_allclose(arrays["entropy_mean"][:, :, 4], expected, rtol=1e-6)
    assert arrays["attended"].tolist() == [[1, 4, 8, 12, 16]] * 2 and arrays["layers"].tolist() == [0, 5]


def test_components_are_the_principal_ones_of_all_documents(tmp_path):
    files = DocumentFiles(tmp_path)
    random, widths = np.random.default_rng(0), 3.0 ** -np.arange(WIDTH)
    states = [(random.normal(size=(LAYERS, 180, WIDTH)) * widths).astype(np.float32) for _ in range(3)]
    for index, hidden in enumerate(states):
        files.save(index, document(index) | {"hidden": hidden})
    arrays = summarise_documents(files, [0, 1, 2], PLAN, [0, 1])
    for layer in range(LAYERS):
        points = np.concatenate([hidden[layer] for hidden in states])
        exact = PCA(COMPONENTS).fit(points)
        ours = arrays["hidden_coordinates"][layer]
        correlation = [abs(np.corrcoef(a, b)[0, 1]) for a, b in zip(exact.transform(points).T, ours.T)]
        assert min(correlation) > 0.99
        np.testing.assert_allclose(
            arrays["explained_variance_ratio"][layer], exact.explained_variance_ratio_, rtol=0.01
        )
    assert arrays["hidden_document"].tolist() == [index for index in range(3) for _ in range(180)]
    assert arrays["hidden_position"][178:182].tolist() == [178, 179, 0, 1]


def test_a_line_whose_file_is_gone_is_measured_again(journal, files):
    files.path(1).unlink()
    again = Journal(journal.trial, files.path)
    assert again.done == {0, 2} and [line["index"] for line in again.trial.samples()] == [0, 2]
    assert (journal.seconds, journal.peak_memory) == (6.0, 102)


def test_a_damaged_file_is_named(journal, files):
    files.path(1).write_bytes(b"PK damaged")
    with pytest.raises(UserError, match=r"checkpoint-document-000001.npz cannot be read"):
        summarise_documents(files, [0, 1], PLAN, [0, 1])


def test_entropy_relative_to_uniform_attention():
    keys = np.array([1, 2, 8])
    found = relative_entropy(np.log(keys)[None] / 2, keys)
    assert np.isnan(found[0, 0]) and found[0, 1:] == pytest.approx([0.5, 0.5])


class TestHeadlines:
    def results(self, journal, length=8, **replaced):
        arrays = summarise_documents(DocumentFiles(journal.trial.folder), sorted(journal.done), PLAN, [0, 1]) | replaced
        return summarise(journal, arrays, length, "cpu")

    def test_they_fit_into_json_and_are_shown(self, journal):
        results = self.results(journal)
        assert json.loads(json.dumps(results, allow_nan=False)) == results
        assert "42 tokens of 3 documents, up to 16" in describe(results)

    def test_logits_within_and_beyond_the_pretraining_length(self, journal):
        logits = np.zeros((LAYERS, HEADS, BINS))
        logits[:, :, 1], logits[:, :, 3] = 2.0, 1.0
        logits[0, 0, 2] = 5.0
        logits[1, 0, 2:] = np.nan
        found = self.results(journal, logit_max_mean=logits)["logits"]
        assert found["within"] == 2.0 and found["largest_within"] == 2.0 and found["largest_beyond"] == 5.0
        assert found["beyond"] == pytest.approx((5 + 4) / 5) and found["heads_exceeding"] == pytest.approx(1 / 5)

    def test_entropy_and_mass_at_the_pretraining_length_and_at_the_end(self, journal):
        entropy = np.broadcast_to(np.log(PLAN.positions + 1) / 2, (LAYERS, HEADS, 5))
        results = self.results(journal, entropy_mean=entropy)
        within, end = results["entropy"]["at_pretraining_length"], results["entropy"]["at_end"]
        assert (within["position"], end["position"]) == (7, 15)
        assert within["nats"] == pytest.approx(np.log(8) / 2) and end["relative_to_all"] == pytest.approx(0.5)
        assert results["mass"]["at_end"]["position"] == 15

    def test_without_a_pretraining_length_or_texts_beyond_it_there_is_nothing_to_compare(self, journal):
        for length in (None, 16, 100):
            results = self.results(journal, length=length)
            assert results["logits"]["beyond"] is None and results["logits"]["heads_exceeding"] is None
            assert results["entropy"]["at_pretraining_length"] is None
            describe(results)

    def test_how_far_the_first_tokens_lie_apart(self, journal):
        places = np.array([0, 1, 2, 3, 4, 5])
        points = np.array([[10.0, 0], [10, 2], [1, 1], [-1, 1], [0, 2], [0, 0]])
        hidden = {
            "hidden_coordinates": points[None],
            "hidden_position": places,
            "explained_variance_ratio": np.array([[0.5, 0.25]]),
        }
        found = self.results(journal, **hidden)["hidden"]
        distance = np.sqrt(101)
        assert found == {"explained": [0.75], "apart": [pytest.approx(distance)], "farthest": [pytest.approx(distance)]}
        for first in (0, 6):
            found = self.results(journal, **hidden, first_tokens=np.array(first))["hidden"]
            assert found["apart"] == found["farthest"] == [None]
