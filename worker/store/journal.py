"""What happened along the way: alarms, notes, checkpoints; and whether anything happened at all."""

from __future__ import annotations

from worker.rows import AlarmRow, CheckpointRow, NoteRow
from worker.store.connection import ALL
from worker.store.worker_status import WorkerPresence


class Journal(WorkerPresence):
    """The tables `alarms`, `notes`, `checkpoints` and `changes`."""

    def alarms(self, run_id: int) -> list[AlarmRow]:
        """Safeguards that fired, first step first."""
        found = self.rows("SELECT * FROM alarms WHERE run_id = ? ORDER BY step, id", (run_id,))
        return [AlarmRow(**dict(row)) for row in found]

    def notes(self, run_id: int) -> list[NoteRow]:
        """What was told, in the order it was told."""
        found = self.rows("SELECT * FROM notes WHERE run_id = ? ORDER BY id", (run_id,))
        return [NoteRow(**dict(row)) for row in found]

    def checkpoints(self, run_id: int) -> list[CheckpointRow]:
        """Checkpoints reported, first step first."""
        found = self.rows("SELECT * FROM checkpoints WHERE run_id = ? ORDER BY step", (run_id,))
        return [CheckpointRow(**dict(row)) for row in found]

    def change_token(self, run_id: int | None = None) -> str:
        """A text that changes whenever anything shown of the run, or (None) of anything at all, changes.

        Three look-ups by key. The silence of a worker changes it too, in steps of five seconds.
        """
        row = self.row("SELECT count FROM changes WHERE scope = ?", (ALL if run_id is None else run_id,))
        worker = self.worker_status()
        silence = "up" if worker.alive else f"silent-{int(worker.silent_s or 0) // 5}"
        held = "held" if self.queue_held() else "open"
        return f"{0 if row is None else row['count']}-{worker.pid}-{silence}-{held}"

    def progress_token(self, run_id: int) -> int:
        """Changes whenever the run is a little further in its phase, which `change_token` of the run leaves out."""
        row = self.row("SELECT count FROM changes WHERE scope = ?", (-run_id,))
        return 0 if row is None else int(row["count"])
