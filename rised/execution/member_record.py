"""The row of a sub-experiment that runs, and its changes of state that are not in the database yet."""

from rised.clock import now_ms
from rised.experiments.experiment import Experiment
from rised.experiments.transitions import Transitions
from rised.policy.outcome import KillMode
from rised.storage.rows import MemberChange, MemberRow
from riseml_proto.states import State, advance


class MemberRecord:
    """Changes come together and are written as one."""

    def __init__(self, transitions: Transitions, experiment: Experiment, row: MemberRow) -> None:
        """`row` is the database's, or a new one in state CREATED."""
        self.row = row
        self._transitions = transitions
        self._experiment = experiment
        self._unwritten: list[MemberChange] = []

    def come_to(
        self,
        state: State,
        message: str | None = None,
        *,
        ran_since_ms: int | None = None,
        **columns: object,
    ) -> None:
        """Change the state, and other columns with it. `ran_since_ms`: see `MemberChange`."""
        self.row = self.row._replace(state=advance(self.row.state, state), **columns)  # type: ignore[arg-type]
        self._unwritten.append(MemberChange(self.row, now_ms(), message, ran_since_ms))

    def mark_killed(self, mode: KillMode) -> None:
        """Note a kill that the database has: what is written from now on must not undo it."""
        self.row = self.row._replace(kill=mode)
        # In place: a write that waits for room on the disk reads the list anew for each try.
        self._unwritten[:] = [
            change._replace(row=change.row._replace(kill=mode)) for change in self._unwritten
        ]

    async def write(self) -> None:
        """Write all changes so far; waits for room on the disk."""
        await self._transitions.write_surely(self._experiment, self._unwritten)
        self._unwritten.clear()
