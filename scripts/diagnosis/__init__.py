"""Why a model fails at length: its attention measured over documents. `experiment.py` reads top to bottom.

What is measured of a text is in `models/diagnosis/`; here documents are read, kept and added up. A statistic more is
named in `utils/trials/diagnosis_arrays.py`, a headline number of it in `report.py`.
"""

SCRIPT = "diagnose"
