"""The log dir is removed while each script runs: that is said, and nothing else."""

import pytest

from scripts.diagnosis.documents import DocumentDiagnosis
from scripts.streaming.checkpoints import StreamCheckpoints
from tests.scripts.streaming.stream_trials import write_texts
from tests.scripts.test_damage import FLAGS, run_here
from utils.errors import UserError
from utils.trials.trial import Trial

PLACES = [(script, Trial, "append_samples") for script in FLAGS]
PLACES += [("eval_infinite_ppl", StreamCheckpoints, name) for name in ("begin", "save", "commit")]
PLACES += [("eval_infinite_ppl", Trial, "replace_arrays"), ("eval_ppl_deepspeed", Trial, "replace_arrays")]
PLACES += [(script, Trial, "finish") for script in FLAGS] + [("diagnose", DocumentDiagnosis, "_keep")]


@pytest.mark.parametrize("script, owner, name", PLACES)
def test_a_log_dir_that_is_removed_is_said_to_be(script, owner, name, tiny_llama_dir, tmp_path, monkeypatch):
    original, log_dir = getattr(owner, name), tmp_path / "log"

    def removing(*arguments, **options):
        if log_dir.exists():  # at once: other threads write there
            log_dir.rename(tmp_path / "gone")
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, removing)
    texts = write_texts(tmp_path / "texts", (60, 25, 40))
    dataset = "passkey_retrieval" if script == "eval_downstream_tasks" else texts
    with pytest.raises(UserError, match="--log_dir .*log was removed while this ran: what was in it is lost"):
        run_here(script, "--model", tiny_llama_dir, "--dataset", dataset, *FLAGS[script], "--log_dir", log_dir)
