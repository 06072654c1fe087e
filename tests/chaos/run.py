"""
Break everything for a while and prove that nothing was lost: `make chaos`.

    python -m tests.chaos.run --database sqlite --seconds 60 --seed 1

Prints figures and draws them under artifacts/chaos; with violations it keeps the journals beside
the drawing and exits with 1.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import cast, figures, logbook
from tests.chaos.checker import Subscription, Violation, check_log, check_resources, follow
from tests.chaos.cursors import opened
from tests.chaos.databases import KINDS
from tests.chaos.history import History, operations
from tests.chaos.journal import Reader, Record, read
from tests.chaos.nemesis import Nemesis, faults, schedule
from tests.chaos.picture import picture
from tests.chaos.service import Lacking
from tests.chaos.stage import Stage
from tests.chaos.view import Holding, Row
from tests.servers import ROOT

ARTIFACTS = ROOT / "artifacts" / "chaos"
RATE = 6.0
BASE_SECONDS = 60.0
#: How long everybody may take to hold what REST says, once all is healed.
CONVERGENCE_SECONDS = 45.0
#: How long the servers may take to let go of what clients that have gone had of them.
REST_SECONDS = 30.0
SHOWN = 40
#: The bugs that can be planted: those of `plants`, and one in the JavaScript client's handler.
PLANTS = ("drop", "swap", "repeat", "leak", "stale-cursor", "skip-revocation", "hoard")
Truth = dict[tuple[str, str], dict[str, Row]]
PICTURE = "deliveries.svg"
FIGURES = "figures.json"
VIOLATIONS = "violations.txt"


@dataclass(frozen=True)
class Verdict:
    """What a run has shown: in numbers, as a drawing, and what was violated."""

    figures: figures.Figures
    picture: str
    violations: list[Violation]


class Run:
    """One run: its stage, its clients, what is held while it goes on, its verdict."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments = arguments
        self.folder = folder
        self.began = time.monotonic()
        self.stage = Stage(
            arguments.database,
            folder,
            seed=arguments.seed,
            rate=arguments.rate,
            bug=arguments.plant,
            say=self.say,
        )
        self.clients: list[Record] = []
        self.readers = [Reader(folder / name) for name in ("clients.jsonl", "scripts.jsonl")]
        self.held: dict[tuple[str, str], Holding] = {}
        self.records: list[Record] = []
        self.converged_after = float("inf")
        self.truth: Truth = {}
        self.held_before: list[dict[str, int]] = []
        self.held_after: list[dict[str, int]] = []

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", flush=True)

    async def perform(self) -> None:
        """Bring everything onto the stage, break it, heal it, and wait until all agree."""
        own = asyncio.current_task()
        assert own is not None
        # Else what was started would go on when the run is asked to end.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, own.cancel)
        try:
            await self._play()
        finally:
            await self.stage.close()

    async def _play(self) -> None:
        stage, arguments = self.stage, self.arguments
        await stage.build()
        self.say(f"two servers on {arguments.database}; {len(stage.world['objects'])} objects")
        self.held_before = await asyncio.to_thread(stage.resources)
        self.clients = cast.clients(stage.scopes, arguments.transports)
        self.held = {
            (client["id"], name): Holding(stage.scopes[name].collection)
            for client in self.clients
            for name in client["scopes"]
        }
        await stage.follow(self.clients)
        await self._until_all_have_a_base()
        self.say(f"{len(self.clients)} clients with {len(self.held)} subscriptions")
        await stage.write()
        self.say("the writer writes")
        progress = asyncio.create_task(self._progress())
        possible = faults(
            redis=stage.redis is not None, database_server=stage.database.service is not None
        )
        strokes = schedule(arguments.seed, arguments.seconds, possible)
        if not arguments.calm:
            await Nemesis(stage).run(strokes)
        left = self.began_breaking + arguments.seconds - time.monotonic()
        await asyncio.sleep(max(left, 0))
        progress.cancel()
        self.say("all is healed; the writer says its last words")
        await stage.finish()
        await self._converge()
        await asyncio.to_thread(stage.leave)
        await self._rest()

    async def _until_all_have_a_base(self) -> None:
        end = time.monotonic() + BASE_SECONDS
        while any(not one.view.has_base for one in self.held.values()):
            if time.monotonic() > end:
                without = [key for key, one in self.held.items() if not one.view.has_base]
                raise RuntimeError(f"no base within {BASE_SECONDS:g} s: {without[:5]}")
            await asyncio.sleep(0.2)
            self._read()
        self.began_breaking = time.monotonic()

    def _read(self) -> None:
        for reader in self.readers:
            for record in reader:
                self.records.append(record)
                if "s" in record and record["kind"] in {"ask", "frame"}:
                    self.held[record["c"], record["s"]].take(record)

    async def _progress(self) -> None:
        while True:
            await asyncio.sleep(10)
            await asyncio.to_thread(self._read)
            kinds = Counter(record["kind"] for record in self.records)
            self.say(f"  {self.stage.logbook.after} entries, {kinds['frame']} frames")

    async def _converge(self) -> None:
        """Ask REST as each asker, and wait until every subscription holds just that."""
        stage = self.stage
        healed = time.monotonic()
        for client in self.clients:
            for name in client["scopes"]:
                key = name, client["asker"]
                if key not in self.truth:
                    self.truth[key] = await asyncio.to_thread(stage.ask, stage.scopes[name], key[1])
        while True:
            self._read()
            behind = [
                (client["id"], name)
                for client in self.clients
                for name in client["scopes"]
                if self.held[client["id"], name].view.rows != self.truth[name, client["asker"]]
            ]
            if not behind:
                self.converged_after = time.monotonic() - healed
                self.say(f"all hold what REST says after {self.converged_after:.1f} s")
                return
            if time.monotonic() - healed > CONVERGENCE_SECONDS:
                self.say(f"{len(behind)} subscriptions do not hold what REST says: {behind[:6]}")
                return
            await asyncio.sleep(0.3)

    async def _rest(self) -> None:
        """Wait until the servers hold no more than before anybody came."""
        end = time.monotonic() + REST_SECONDS
        while True:
            self.held_after = await asyncio.to_thread(self.stage.resources)
            over = check_resources(self.held_before, self.held_after, time.monotonic())
            if not over:
                self.say("the servers hold what they held before anybody came")
                return
            if time.monotonic() > end:
                self.say(f"the servers still hold more than before: {len(over)} kinds")
                return
            await asyncio.sleep(0.5)

    def judge(self) -> Verdict:
        """Check the journals."""
        self._read()
        journals = [read(path) for writing in self.stage.writings for path in writing.journals]
        lives = logbook.epochs(read(self.folder / "log.jsonl"))
        history = History(self.stage.world["objects"], operations(journals), lives)
        struck = [one for one in read(self.folder / "nemesis.jsonl") if one["kind"] == "fault"]
        records = sorted(self.records, key=lambda record: record["t"])
        followed = follow(self.clients, self.stage.scopes, records, history, opened)
        for subscription in followed.values():
            truth = self.truth[subscription.scope.name, subscription.asker]
            subscription.check_end(truth, time.monotonic())
        violations = check_log(history)
        violations += check_resources(self.held_before, self.held_after, time.monotonic())
        for subscription in followed.values():
            violations += subscription.violations
        found = figures.deliveries(followed.values(), history)
        title = (
            f"{self.arguments.database}, seed {self.arguments.seed}, {len(self.clients)} clients"
        )
        return Verdict(
            self._figures(followed, history, struck, found, violations),
            picture(title, found, struck, self.began_breaking),
            violations,
        )

    def _figures(
        self,
        followed: Mapping[tuple[str, str], Subscription],
        history: History,
        struck: list[Record],
        found: list[figures.Delivery],
        violations: list[Violation],
    ) -> figures.Figures:
        tallies = [one.tally for one in followed.values()]
        middle, p99, calm = figures.percentiles(found, struck)
        arguments = self.arguments
        return figures.Figures(
            database=arguments.database,
            seed=arguments.seed,
            seconds=arguments.seconds,
            clients=len(self.clients),
            changes_committed=sum(
                one.visible
                and any(history.happened(one, epoch) for epoch in range(len(history.epochs)))
                for one in history.operations
            ),
            frames_delivered=sum(tally.frames for tally in tallies),
            deliveries=len(found),
            lost=sum(one.learned is None for one in found),
            application_duplicates=sum(tally.application_duplicates for tally in tallies),
            rows_repeated_on_the_wire=sum(tally.repeated for tally in tallies),
            resumes=sum(tally.resumes for tally in tallies),
            resets=figures.total(tally.resets for tally in tallies),
            refusals=figures.total(tally.refusals for tally in tallies),
            median_ms=middle,
            p99_ms=p99,
            calm_p99_ms=calm,
            recoveries=figures.recoveries(struck, found),
            converged_after_seconds=round(self.converged_after, 2),
            violations=len(violations),
            held=[
                {name: [base[name], after[name]] for name in base}
                for base, after in zip(self.held_before, self.held_after, strict=True)
            ],
        )


def report(found: figures.Figures, violations: list[Violation]) -> None:
    """Print what was seen."""
    resets = ", ".join(f"{count} {reason}" for reason, count in found.resets.items()) or "none"
    refusals = ", ".join(f"{count} {code}" for code, count in found.refusals.items()) or "none"
    print(f"""
{found.database}, seed {found.seed}, {found.seconds:g} s, {found.clients} clients
  changes committed                     {found.changes_committed}
  frames delivered                      {found.frames_delivered}
  changes that had to be learned        {found.deliveries}
  lost                                  {found.lost}
  duplicates seen by the application    {found.application_duplicates}
  rows repeated on the wire             {found.rows_repeated_on_the_wire}
  resumed                               {found.resumes}
  resets                                {resets}
  refused                               {refusals}
  commit to delivery, median            {found.median_ms:g} ms
  commit to delivery, 99 %              {found.p99_ms:g} ms
  the same, away from faults            {found.calm_p99_ms:g} ms
  all agreed after the last word within {found.converged_after_seconds:g} s
  longest recovery after""")
    for one in found.recoveries:
        print(f"    {one['fault']:<34}  {one['seconds']:g} s")
    print("  held before anybody came, and when all had gone")
    for name in found.held[0]:
        counts = ", ".join(f"{server[name][0]} and {server[name][1]}" for server in found.held)
        print(f"    {name:<34}  {counts}")
    print(f"  violations                            {found.violations}")
    for check, count in Counter(one.check for one in violations).items():
        print(f"    {check}: {count}")
    for one in sorted(violations, key=lambda one: one.t)[:SHOWN]:
        print(f"    {one}")


def parse(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--database", choices=KINDS, default="sqlite")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rate", type=float, default=RATE, help="operations per second")
    parser.add_argument("--plant", choices=["", *PLANTS], default="", help="plant this bug")
    parser.add_argument("--calm", action="store_true", help="break nothing")
    parser.add_argument("--keep", action="store_true", help="keep the journals")
    parser.add_argument("--transports", nargs="+", default=list(cast.COUNTS), metavar="NAME")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    arguments = parse(words)
    try:
        is_broken = perform(arguments)
    except Lacking as error:
        if os.environ.get("REQUIRE_ALL"):
            print(f"REQUIRE_ALL is set and this machine lacks {error}: the chaos run failed")
            return 1
        print(f"Skipped: the chaos run on {arguments.database}, this machine lacks {error}")
        return 0
    except asyncio.CancelledError:
        print("the chaos run was ended before it could judge")
        return 1
    if arguments.plant:
        print(f"the planted bug {arguments.plant} was {'found' if is_broken else 'NOT FOUND'}")
    return int(is_broken != bool(arguments.plant))


def perform(arguments: argparse.Namespace) -> bool:
    """Do a run and report it; return whether it has found anything wrong."""
    folder = Path(tempfile.mkdtemp(prefix="wagtail-live-chaos-"))
    folder.chmod(0o755)  # a database server that refuses to be root lives in it
    journals = True
    try:
        run = Run(arguments, folder)
        asyncio.run(run.perform())
        verdict = run.judge()
        report(verdict.figures, verdict.violations)
        (folder / FIGURES).write_text(verdict.figures.json())
        (folder / VIOLATIONS).write_text("".join(f"{one}\n" for one in verdict.violations))
        (folder / PICTURE).write_text(verdict.picture)
        is_broken = bool(verdict.violations) or verdict.figures.lost > 0
        journals = is_broken or arguments.keep
    except Lacking:
        journals = False
        raise
    finally:
        keep(folder, arguments, journals=journals)
        shutil.rmtree(folder, ignore_errors=True)
    return is_broken


def keep(folder: Path, arguments: argparse.Namespace, *, journals: bool) -> None:
    """Copy the drawing and the figures to where they survive; with ``journals`` those and logs."""
    planted = f"-{arguments.plant}" if arguments.plant else ""
    target = ARTIFACTS / f"{arguments.database}-{arguments.seed}{planted}"
    wanted = [
        path
        for path in folder.iterdir()
        if path.name in {PICTURE, FIGURES}
        or (journals and path.suffix in {".jsonl", ".json", ".log", ".txt"})
    ]
    if not wanted:
        return
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(target)
    target.mkdir(parents=True)
    for path in wanted:
        shutil.copy(path, target)
    if (target / PICTURE).exists():
        print(f"picture: {target / PICTURE}")
    if journals:
        print(f"journals: {target}")


if __name__ == "__main__":
    sys.exit(main())
