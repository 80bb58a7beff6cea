"""A merged model is made in the process of a job, complete or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from sqlite_utils import Database

from ttrl_engine.bundled import model_path
from ttrl_engine.config import RunConfig
from ttrl_engine.errors import ConfigError
from worker.folders import merged_folder
from worker.jobs import JobDesk
from worker.schema import migrations
from worker.settings import Settings
from worker.settlement import Verdict
from worker.states import JobState
from worker.store import Store, open_store
from worker.supervisor import CHILD, Supervisor


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the bundled model that changes what it computes."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_pretrained(str(model_path("abacus-1m")))
    adapted = get_peft_model(
        model,
        LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False),
    )
    folder = tmp_path_factory.mktemp("adapter")
    adapted.save_pretrained(str(folder))
    return folder


@pytest.fixture
def trained(store: Store, submit, adapter: Path) -> int:
    """A run whose policy is that adapter."""
    run_id = int(submit())
    claim = store.claim_next("w")
    assert claim is not None
    store.request_cancel(claim.job_id)
    store.let_go(claim, lambda _job, _step: Verdict(JobState.STOPPED, "As the test says."))
    folder = store.run_folder(run_id)
    folder.mkdir(parents=True)
    shutil.copytree(adapter, folder / "policy")
    with store.writing(run_id) as connection:
        connection.execute("UPDATE runs SET policy_path = 'policy' WHERE id = ?", (run_id,))
    return run_id


def test_the_merged_model_is_made_by_a_job_and_computes_what_the_adapted_one_does(
    store: Store, trained: int, settings: Settings, adapter: Path
):
    export_id = JobDesk(store).submit_export(trained, "client")
    Supervisor(store, settings, "this worker", child=CHILD).serve()
    export = store.export(export_id)
    assert export is not None
    assert (export.state, export.phase, export.done, export.total) == (JobState.FINISHED, "done", 3, 3), export.job
    merged = merged_folder(store.data_dir, trained)
    assert (merged / "model.safetensors").is_file()
    assert [path.name for path in merged.parent.iterdir()] == ["merged"]

    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([[5, 9, 7, 3, 11]])
    base = AutoModelForCausalLM.from_pretrained(str(model_path("abacus-1m")))
    before = base(ids).logits
    adapted = PeftModel.from_pretrained(base, str(adapter))(ids).logits
    alone = AutoModelForCausalLM.from_pretrained(str(merged))(ids).logits
    assert (alone - adapted).abs().max() < 1e-3
    assert (alone - before).abs().max() > 1e-1


def test_an_export_that_fails_tells_why_and_leaves_nothing(store: Store, trained: int, settings: Settings):
    (store.run_folder(trained) / "policy" / "adapter_model.safetensors").write_bytes(b"no tensors")
    export_id = store.submit_export(trained, "client")
    Supervisor(store, settings, "this worker", child=CHILD).serve()
    export = store.export(export_id)
    assert export is not None
    assert export.state is JobState.FAILED
    assert export.job.error_message
    assert list(merged_folder(store.data_dir, trained).parent.iterdir()) == []


def test_an_export_is_placed_before_the_runs_that_wait(store: Store, trained: int, submit):
    waiting = submit()
    store.submit_export(trained, "client")
    assert [(job.kind, job.title) for job in store.queue()] == [
        ("export", f"Merged model of run {trained}"),
        ("run", "a run"),
    ]
    assert waiting


def test_an_export_under_way_is_not_asked_for_twice(store: Store, trained: int):
    assert store.submit_export(trained, "one") == store.submit_export(trained, "two")


@pytest.mark.parametrize("changes", [{"model.method": "full"}, {}])
def test_an_export_of_what_has_no_adapter_is_refused(store: Store, set_id: str, changes: dict[str, str]):
    run_id = store.submit_run(RunConfig().with_changes(**changes), "client", set_id)
    with pytest.raises(ConfigError):
        store.submit_export(run_id, "client")
    with pytest.raises(ConfigError):
        store.submit_export(99, "client")


def test_an_export_changes_the_page_of_its_run(store: Store, trained: int):
    before = store.change_token(trained)
    store.submit_export(trained, "client")
    assert store.change_token(trained) != before


def test_a_database_of_the_first_release_keeps_its_jobs_and_takes_exports(tmp_path: Path):
    old = Database(tmp_path / "app.db")
    migrations.apply(old, stop_before="m_exports_and_deliveries")
    old.execute("INSERT INTO jobs (id, kind, state, position, created_at) VALUES (7, 'run', 'finished', 1.0, 2.0)")
    old.execute("INSERT INTO job_history (job_id, at, to_state, reason) VALUES (7, 1.0, 'queued', 'x')")
    old.conn.commit()
    old.close()
    store = open_store(tmp_path)
    assert [tuple(row) for row in store.rows("SELECT id, kind, created_at FROM jobs")] == [(7, "run", 2.0)]
    assert [tuple(row) for row in store.rows("SELECT job_id FROM job_history")] == [(7,)]
    assert store.rows("PRAGMA foreign_key_check") == []
    with store.writing() as connection:
        connection.execute("INSERT INTO jobs (kind, state, position, created_at) VALUES ('export', 'queued', 2.0, 3.0)")
    assert {row[1] for row in store.rows("PRAGMA index_list(jobs)")} == {"jobs_by_state"}
