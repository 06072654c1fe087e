"""
What is wrong, told from figures alone: the log's and those that each process gave of itself.

Pure: it asks neither the database nor the clock. Ages are in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from wagtail_live.events import LogState

BellState = Literal["off", "ok", "silent"]

#: A committed entry that waits longer than this, beyond a poll, waits for a process that hangs.
STALLED_SECONDS = 5.0
#: Processes say how they are every ten seconds; who missed two of these may be dead.
SILENT_SECONDS = 30.0
#: A process that was not seen for longer counts no more.
GONE_SECONDS = 60.0
#: A failure is a problem for this long.
FAILED_SECONDS = 60.0
#: Pruning happens every ten minutes: this long after its time an entry should be gone.
UNPRUNED_SECONDS = 3600.0


class Problem(Enum):
    """What can be wrong. The name is the code; ``down``: no change reaches anybody."""

    LOG_UNREACHABLE = "The database of the log does not answer.", True
    NUMBERING_STALLED = "Committed entries get no position, so nobody is told of them.", True
    RELAY_BEHIND = "A process has not read what the log has held for ten seconds.", False
    PROCESS_SILENT = "A process has stopped saying how it is, without an orderly end.", False
    BELL_SILENT = "A process does not hear the bell; it learns of changes by polling.", False
    QUERIES_FAILING = "A process failed to follow the log or to answer a live query.", False
    LOG_UNPRUNED = "The log keeps entries that are older than the retention time.", False

    def __init__(self, message: str, down: bool) -> None:
        self.message = message
        self.down = down


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What a process said of itself, ``seen_seconds`` ago; counts are since it began."""

    host: str
    pid: int
    version: str
    up_seconds: float
    seen_seconds: float
    position: int
    behind: int
    sessions: int
    live_queries: int
    subscriptions: int
    cut: Mapping[str, int]
    bell: BellState
    bell_error: str
    failures: int
    failed_seconds: float | None


@dataclass(frozen=True, slots=True)
class Report:
    """How it is: the problems, and the figures that they are told from."""

    problems: tuple[Problem, ...]
    log: LogState | None = None
    processes: tuple[ProcessState, ...] = ()
    error: str = ""

    @property
    def status(self) -> Literal["ok", "degraded", "down"]:
        if any(problem.down for problem in self.problems):
            return "down"
        return "degraded" if self.problems else "ok"


def report(
    log: LogState,
    processes: Iterable[ProcessState],
    *,
    stalled: bool,
    retention_seconds: float,
) -> Report:
    """
    Return what the figures tell, the gravest problem first.

    ``stalled``: the first entry without a position has waited for too long, and waits still.
    """
    here = tuple(process for process in processes if process.seen_seconds <= GONE_SECONDS)
    problems = {*_of_log(log, here, stalled, retention_seconds)}
    for process in here:
        problems.update(_of_process(process))
    return Report(tuple(one for one in Problem if one in problems), log, here)


def seems_stalled(log: LogState, poll_seconds: float) -> bool:
    """
    Return whether the first entry without a position looks as if it had waited for too long.

    It may have been written long ago by a transaction that has only just committed: look twice.
    """
    return log.waiting_seconds > STALLED_SECONDS + poll_seconds


def _of_log(
    log: LogState,
    processes: tuple[ProcessState, ...],
    stalled: bool,
    retention_seconds: float,
) -> Iterator[Problem]:
    # Where nobody follows, nobody polls: an entry may wait for the next save, or the next follower.
    if processes and stalled:
        yield Problem.NUMBERING_STALLED
    pruned_by_now = any(process.up_seconds > UNPRUNED_SECONDS for process in processes)
    if pruned_by_now and log.oldest_seconds > retention_seconds + UNPRUNED_SECONDS:
        yield Problem.LOG_UNPRUNED


def _of_process(process: ProcessState) -> Iterator[Problem]:
    if process.seen_seconds > SILENT_SECONDS:
        yield Problem.PROCESS_SILENT
    if process.behind:
        yield Problem.RELAY_BEHIND
    if process.bell == "silent":
        yield Problem.BELL_SILENT
    if process.failed_seconds is not None and process.failed_seconds < FAILED_SECONDS:
        yield Problem.QUERIES_FAILING
