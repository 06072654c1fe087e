"""
No input makes the site fail, by whichever door it comes.

What was found to be of interest is kept under ``corpus`` and said again each time. `make fuzz`
goes on for minutes: what has a new outcome joins the corpus, what fails does too.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given

from example_project.newsroom.models import Notice
from tests import newsroom
from tests.fuzz.bench import TARGETS, Bench, Finding, token
from tests.fuzz.strategies import inputs
from tests.tokens import APIToken, token_of

pytestmark = [pytest.mark.databases, pytest.mark.usefixtures("committed")]

CORPUS = Path(__file__).parent / "corpus"
#: How long `make fuzz` wants it, in all; without it a few examples do.
FUZZ_SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
FEW = 25
LONGEST_KEPT = 8000


@pytest.fixture
def bench(committed: None) -> Iterator[Bench]:
    newsroom.build()
    Notice.objects.create(text="Gale")
    if APIToken is not None:
        token.set(token_of(newsroom.add_user("program"))[1])
    with Bench() as made:
        yield made


def kept(target: str) -> list[str]:
    files = sorted((CORPUS / target).glob("*.txt"))
    return [file.read_bytes().decode("utf-8", "surrogatepass") for file in files]


def keep(target: str, text: str) -> Path:
    data = text.encode("utf-8", "surrogatepass")
    file = CORPUS / target / f"{hashlib.sha256(data).hexdigest()[:12]}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


@pytest.mark.parametrize("target", TARGETS)
def test_what_was_kept_fails_no_more(bench: Bench, target: str) -> None:
    texts = kept(target)
    assert texts, "the corpus is part of the repository"
    for text in texts:
        bench.run(target, text)


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_else_fails(bench: Bench, target: str) -> None:
    texts = kept(target)
    seen: set[str] = set()
    if FUZZ_SECONDS:
        seen.update(*(bench.run(target, text) for text in texts))
    until = time.monotonic() + FUZZ_SECONDS / len(TARGETS)
    tried = 0
    failing = [""]

    def try_one(text: str) -> None:
        nonlocal tried
        tried += 1
        try:
            outcome = bench.run(target, text)
        except Finding:
            failing[0] = text
            raise
        if FUZZ_SECONDS and not outcome <= seen and len(text) < LONGEST_KEPT:
            seen.update(outcome)
            keep(target, text)

    for number in count():
        search = given(inputs(target, texts))(try_one)
        search = hypothesis.settings(
            max_examples=FEW if not FUZZ_SECONDS else 4 * FEW,
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )(search)
        if FUZZ_SECONDS:
            search = hypothesis.seed(number)(search)
        try:
            search()
        except Finding as finding:
            pytest.fail(f"{keep(target, failing[0])} makes it fail: {finding}")
        if time.monotonic() > until:
            break
    print(f"\nfuzz: {target}: {tried} inputs, {len(seen)} outcomes")
