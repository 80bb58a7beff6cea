"""The errors a user can meet. Each message says what happened, why, and what to do next; it is shown as written."""


class StudioError(Exception):
    """Base of every error that is the user's or the machine's doing, never a bug of ours."""


class ConfigError(StudioError):
    """A run was asked for with values that cannot work together."""


class DataError(StudioError):
    """A problem set, or a row of one, cannot be used."""


class ModelError(StudioError):
    """A model cannot be found, trusted or loaded."""


class RunError(StudioError):
    """A run that was accepted cannot go on."""


class PeerLostError(RunError):
    """Another process of the same run has ended. What it has to say is the reason; this one only cannot go on."""

    def __init__(self, rank: int) -> None:
        super().__init__(
            f"Process {rank} of this run cannot go on: another one has ended. The log says why; resume the run to go "
            "on from its last checkpoint."
        )
