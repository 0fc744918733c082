"""CITATION.cff against the paper's entry in the ACL Anthology, https://aclanthology.org/2024.naacl-long.222.bib."""

from pathlib import Path

import yaml

AUTHORS = "Han, Chi and Wang, Qifan and Peng, Hao and Xiong, Wenhan and Chen, Yu and Ji, Heng and Wang, Sinong"


def test_the_paper_is_cited_as_published():
    paper = yaml.safe_load((Path(__file__).resolve().parents[1] / "CITATION.cff").read_text())["preferred-citation"]
    names = [f"{author['family-names']}, {author['given-names']}" for author in paper["authors"]]
    assert " and ".join(names) == AUTHORS
    assert (paper["start"], paper["end"], paper["year"], paper["month"]) == (3991, 4008, 2024, 6)
    assert paper["doi"] == "10.18653/v1/2024.naacl-long.222"
    assert "North American Chapter of the Association for Computational Linguistics" in paper["collection-title"]
