"""
A process that writes: `python -m tests.chaos.writer main|scheduled JOURNAL SEED BEGAN RATE`.

Lines on its input steer it: `pause` (answered by `paused` when nothing is under way), `resume`,
`finish` (touches everything once more, answers `finished` and ends).
"""

from __future__ import annotations

import logging
import random
import sys
import threading
import time
from pathlib import Path
from typing import Any

import django

logger = logging.getLogger(__name__)


class Worker(threading.Thread):
    """Lets one hand work at its pace, until told otherwise."""

    def __init__(self, hand: Any, seconds: float, chance: random.Random) -> None:
        super().__init__(daemon=True)
        self.hand = hand
        self.seconds = seconds
        self.chance = chance
        self.go_on = threading.Event()
        self.go_on.set()
        self.resting = threading.Event()
        self.finishing = threading.Event()

    def run(self) -> None:
        # ruff: noqa: PLC0415 - models can be imported once Django is set up
        from tests.chaos.recorder import disconnect

        while not self.finishing.is_set():
            if not self.go_on.is_set():
                for helper in getattr(self.hand, "helpers", ()):
                    helper.join(30)
                disconnect()
                self.resting.set()
                self.go_on.wait()
                self.resting.clear()
            self._try(self.hand.step)
            self.finishing.wait(self.chance.expovariate(1 / self.seconds))
        while not self._try(self.hand.finish):
            time.sleep(0.3)
        disconnect()

    def _try(self, action: Any) -> bool:
        from tests.chaos.recorder import disconnect

        try:
            action()
        except Exception as error:  # the database is away: it will come back
            logger.info("a step was left out: %r", error)
            disconnect()
            time.sleep(0.3)
            return False
        return True


def main(role: str, journal: str, seed: str, began: str, rate: str) -> None:
    django.setup()
    from django.db.models.signals import post_save

    from tests.chaos.journal import Journal
    from tests.chaos.pages import Pages, Scheduled
    from tests.chaos.recorder import Recorder
    from tests.chaos.site import WORKERS
    from tests.chaos.snippets import Snippets
    from wagtail_live.models import Entry

    recorder = Recorder(Journal(Path(journal)), float(began))

    def heard(instance: Any, created: bool, **kwargs: Any) -> None:
        if created:
            recorder.entry(instance.uuid.hex, instance.model, instance.object_id)

    post_save.connect(heard, sender=Entry, weak=False)
    chances = [random.Random(f"{seed}-{role}-{number}") for number in range(WORKERS + 2)]
    hands: list[Any]
    if role == "scheduled":
        hands = [Scheduled(recorder, chances[0])]
    else:
        hands = [
            *(
                Pages(recorder, (f"a{number}", f"b{number}"), chances[number])
                for number in range(WORKERS)
            ),
            Pages(recorder, ("hidden0", "hidden1"), chances[-2]),
            Snippets(recorder, chances[-1]),
        ]
    workers = [
        Worker(hand, len(hands) / float(rate), chance)
        for hand, chance in zip(hands, chances, strict=False)
    ]
    for worker in workers:
        worker.start()
    obey(workers)


def obey(workers: list[Worker]) -> None:
    for line in sys.stdin:
        match line.strip():
            case "pause":
                for worker in workers:
                    worker.go_on.clear()
                for worker in workers:
                    worker.resting.wait()
                print("paused", flush=True)
            case "resume":
                for worker in workers:
                    worker.go_on.set()
            case "finish":
                for worker in workers:
                    worker.finishing.set()
                    worker.go_on.set()
                for worker in workers:
                    worker.join()
                print("finished", flush=True)
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
