"""The picture of entropy, in each unit."""

import numpy as np
import pytest

from visualization.drawing import entropy


@pytest.mark.parametrize("unit, most", [("nats", None), ("attended", 0.5), ("all", 0.5)])
def test_entropy_in_its_unit(diagnoses, unit, most):
    axes = entropy.draw(diagnoses, unit=unit, scale="log").axes[0]
    lines = axes.lines[unit == "nats" :]
    for trial, line in zip(diagnoses, lines[::2]):
        np.testing.assert_array_equal(line.get_xdata(), trial.arrays["positions"] + 1)
        last = np.median(trial.arrays["entropy_mean"][..., -1])
        tokens = {"nats": np.e, "attended": trial.arrays["attended"][0, -1], "all": 512}[unit]
        assert line.get_ydata()[-1] == pytest.approx(last / np.log(tokens))
        assert most is None or np.nanmax(line.get_ydata()) <= most
    assert axes.get_xscale() == "log" and axes.get_ylabel() == entropy.LABELS[unit]
