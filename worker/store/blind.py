"""Blind sessions: a person says which of two answers is better and does not know whose they are.

They judge a run and feed nothing: no job reads these tables.
"""

from __future__ import annotations

from ttrl_engine.errors import DataError
from worker.rows import BlindSaid, BlindSessionRow, BlindVoteRow
from worker.store.connection import Connected, now


class BlindSessions(Connected):
    """The tables `blind_sessions` and `blind_votes`."""

    def blind_session(self, session_id: int) -> BlindSessionRow | None:
        """One session."""
        row = self.row("SELECT * FROM blind_sessions WHERE id = ?", (session_id,))
        return None if row is None else BlindSessionRow(**dict(row))

    def blind_session_of(self, comparison_id: int) -> BlindSessionRow | None:
        """The session on a comparison, which has one at most: who has seen the names cannot judge the same answers."""
        row = self.row("SELECT * FROM blind_sessions WHERE comparison_id = ?", (comparison_id,))
        return None if row is None else BlindSessionRow(**dict(row))

    def blind_sessions(self, run_id: int, limit: int = 20) -> list[BlindSessionRow]:
        """The newest sessions on a run, newest first."""
        found = self.rows(
            "SELECT blind_sessions.* FROM blind_sessions JOIN comparisons ON comparisons.id = comparison_id"
            " WHERE comparisons.run_id = ? ORDER BY blind_sessions.id DESC LIMIT ?",
            (run_id, limit),
        )
        return [BlindSessionRow(**dict(row)) for row in found]

    def blind_votes(self, session_id: int) -> list[BlindVoteRow]:
        """What was said, in the order it was said."""
        found = self.rows("SELECT * FROM blind_votes WHERE session_id = ? ORDER BY id", (session_id,))
        return [BlindVoteRow(**dict(row)) for row in found]

    def say_blind_vote(self, session: BlindSessionRow, problem_id: str, said: BlindSaid) -> None:
        """Keep one vote; the first on a problem stands. Raises DataError once the session has ended."""
        with self.writing(*self._scope_of(session.comparison_id)) as connection:
            # The one statement sees an end that comes at this very moment.
            done = connection.execute(
                "INSERT INTO blind_votes (session_id, problem_id, said, at) SELECT id, ?, ?, ? FROM blind_sessions"
                " WHERE id = ? AND ended_at IS NULL ON CONFLICT DO NOTHING",
                (problem_id, said, now(), session.id),
            ).rowcount
            known = "SELECT 1 FROM blind_votes WHERE session_id = ? AND problem_id = ?"
            if not done and connection.execute(known, (session.id, problem_id)).fetchone() is None:
                raise DataError("This session has ended, so its votes stand. Start another to judge more.")

    def undo_blind_vote(self, session: BlindSessionRow) -> BlindVoteRow | None:
        """Take back the last vote and return it; None where there is none, or the session has ended."""
        with self.writing(*self._scope_of(session.comparison_id)) as connection:
            row = connection.execute(
                "SELECT blind_votes.* FROM blind_votes JOIN blind_sessions ON blind_sessions.id = session_id"
                " WHERE session_id = ? AND ended_at IS NULL ORDER BY blind_votes.id DESC LIMIT 1",
                (session.id,),
            ).fetchone()
            if row is None:
                return None
            connection.execute("DELETE FROM blind_votes WHERE id = ?", (row["id"],))
        return BlindVoteRow(**dict(row))

    def end_blind_session(self, session: BlindSessionRow) -> None:
        """From now on the names may be shown, and no vote is added. Ending twice is ending once."""
        with self.writing(*self._scope_of(session.comparison_id)) as connection:
            connection.execute(
                "UPDATE blind_sessions SET ended_at = COALESCE(ended_at, ?) WHERE id = ?", (now(), session.id)
            )

    def _scope_of(self, comparison_id: int) -> tuple[int, ...]:
        return tuple(row[0] for row in self.rows("SELECT run_id FROM comparisons WHERE id = ?", (comparison_id,)))
