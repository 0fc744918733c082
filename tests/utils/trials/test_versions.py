"""What computed a trial, told apart."""

from utils.trials.versions import changes, describe, differ, environment_of, environments

OLD = {"versions": {"torch": "2.13.0", "transformers": "5.23.0", "numpy": "2.4.0"}, "git_commit": "a" * 40}
NEW = {"versions": {"torch": "2.13.0", "transformers": "5.24.0", "numpy": "2.4.6"}, "git_commit": "b" * 40}


def test_changes_name_what_is_watched():
    assert changes(OLD, NEW) == ["transformers 5.24.0 (5.23.0 before)", "commit bbbbbbbb (aaaaaaaa before)"]
    assert changes(OLD, OLD) == []


def test_what_is_not_known_is_no_change():
    assert changes({"versions": {}, "git_commit": None}, NEW) == changes(OLD, environment_of({})) == []
    assert environment_of({"versions": "damaged"}) == {"versions": {}, "git_commit": None}
    assert environments({"continued": 3}) == [{"versions": {}, "git_commit": None}]


def test_trials_differ_among_each_other_or_within_one():
    assert not differ([[OLD], [OLD]]) and not differ([[OLD], [environment_of({})]])
    assert differ([[OLD], [NEW]]) and differ([[OLD, NEW]])


def test_described_in_the_order_in_which_they_took_part():
    assert environments(OLD | {"continued": [NEW]}) == [OLD, NEW]
    assert describe([OLD, NEW, OLD]) == "torch 2.13.0, transformers 5.23.0 then 5.24.0, commit aaaaaaaa then bbbbbbbb"
