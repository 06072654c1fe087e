"""The tree of the package reads as the flow of a change: who may import whom is held here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "wagtail_live"
NAME = PACKAGE.name

#: Which modules of the package a module may import. What is not here may import none.
ALLOWED = {
    # The core: no I/O, no Django.
    "exceptions": set(),
    "events": set(),
    "cursor": {"events", "exceptions"},
    "protocol": {"exceptions"},
    "outbox": set(),
    "hub": {"events", "exceptions", "outbox", "protocol"},
    "limits": set(),
    "tail": {"events", "exceptions"},
    "waiters": set(),
    "counts": set(),
    "diagnosis": {"events"},
    # Django's side: what is written, and what may be read.
    "conf": {"exceptions"},
    "models": {"conf"},
    "database": {"conf"},
    "bell": {"conf"},
    "content": {"conf", "exceptions"},
    "head": {"events", "models"},
    "numbering": {"head", "models"},
    "log": {"bell", "events", "head", "models", "numbering"},
    "history": {"events", "exceptions", "head", "models", "numbering"},
    "retention": {"bell", "conf", "head", "models"},
    "access_tokens": {"conf", "exceptions"},
    "tickets": {"access_tokens", "exceptions", "models"},
    "rules": {"conf", "content", "events", "models"},
    "permissions": {"content"},
    "policy": {"conf", "content", "events", "permissions", "rules", "tickets"},
    "policies": {"conf", "events", "policy", "rules", "tickets"},
    "references": {"content"},
    "representation": {
        "conf",
        "content",
        "events",
        "exceptions",
        "policies",
        "policy",
        "references",
        "rules",
    },
    "signal_handlers": {"content", "events", "log"},
    "rights": {"conf", "events", "log", "models"},
    # Delivery.
    "handshake": {"conf", "limits"},
    "identity": {"access_tokens", "conf", "exceptions", "policy", "protocol", "tickets"},
    "impact": {"content", "events"},
    "noticed": {"content", "events", "hub", "impact", "policy", "representation"},
    "missed": {
        "content",
        "events",
        "exceptions",
        "hub",
        "impact",
        "noticed",
        "policy",
        "representation",
    },
    "source": {
        "events",
        "head",
        "history",
        "hub",
        "impact",
        "missed",
        "noticed",
        "numbering",
        "representation",
        "retention",
        "rules",
        "tickets",
    },
    "feed": {
        "conf",
        "counts",
        "cursor",
        "database",
        "events",
        "exceptions",
        "hub",
        "source",
        "tail",
    },
    "past": {"database", "events", "exceptions", "source", "tail"},
    "askers": {"conf", "events", "exceptions", "feed", "rights"},
    "relay": {
        "askers",
        "bell",
        "conf",
        "counts",
        "database",
        "events",
        "exceptions",
        "feed",
        "hub",
        "past",
        "source",
        "status",
        "tail",
        "waiters",
    },
    "status": {
        "__version__",
        "bell",
        "conf",
        "counts",
        "database",
        "diagnosis",
        "goodbye",
        "head",
        "history",
        "models",
    },
    "session": {
        "askers",
        "rights",
        "conf",
        "database",
        "events",
        "exceptions",
        "hub",
        "identity",
        "limits",
        "outbox",
        "policies",
        "protocol",
        "feed",
        "relay",
        "representation",
    },
    "servers": set(),
    "goodbye": {"servers"},
    "websocket": {
        "conf",
        "counts",
        "exceptions",
        "goodbye",
        "handshake",
        "limits",
        "outbox",
        "protocol",
        "relay",
        "servers",
        "session",
    },
    "sse": {
        "conf",
        "counts",
        "exceptions",
        "goodbye",
        "handshake",
        "limits",
        "outbox",
        "protocol",
        "relay",
        "servers",
        "session",
    },
    "openapi": {"exceptions", "protocol"},
    "changes": {
        "conf",
        "exceptions",
        "goodbye",
        "handshake",
        "limits",
        "openapi",
        "outbox",
        "protocol",
        "relay",
        "session",
    },
    "ticket_view": {
        "conf",
        "exceptions",
        "handshake",
        "identity",
        "openapi",
        "protocol",
        "tickets",
    },
    # Doors.
    "access_admin": {"access_tokens", "conf", "content", "models", "rules"},
    "wagtail_hooks": {"access_admin"},
    "apps": {
        "checks.databases",
        "checks.deployment",
        "checks.installed",
        "checks.settings",
        "rights",
        "signal_handlers",
    },
    "checks.databases": {"head"},
    "checks.deployment": {"conf", "health", "routing"},
    "checks.settings": {"conf", "exceptions", "policy"},
    "endpoints": set(),
    "management.commands.live_new_epoch": {"retention"},
    "health": {"conf", "diagnosis", "status"},
    "management.commands.live_status": {"diagnosis", "health", "status"},
    "management.commands.live_prune": {"conf", "retention", "tickets"},
    "routing": {"sse", "websocket"},
    "testing": {"websocket"},
    "templatetags.wagtail_live": {"conf"},
    "urls": {"changes", "exceptions", "health", "protocol", "ticket_view"},
}
#: Modules that know no Django, and what they may name of it all the same.
CORE = {
    "exceptions": {"django.core.exceptions.ImproperlyConfigured"},
    "events": set(),
    "cursor": set(),
    "protocol": set(),
    "outbox": set(),
    "hub": set(),
    "limits": set(),
    "tail": set(),
    "waiters": set(),
    "counts": set(),
    "diagnosis": set(),
}
DJANGO = ("django", "wagtail", "channels", "rest_framework", "asgiref", "modelcluster", "taggit")

TREES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.name != "__init__.py" and "migrations" not in path.parts
}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield the full names that a tree imports, relative ones excepted: there are none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: an import is absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own(tree: ast.AST) -> set[str]:
    """Return the modules of this package that a tree imports."""
    found = set()
    for name in imported(tree):
        if name == NAME or name.startswith(f"{NAME}."):
            inner = name.removeprefix(NAME).removeprefix(".")
            found.add(next((one for one in TREES if f"{inner}.".startswith(f"{one}.")), inner))
    return found


def below(name: str, *roots: str) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


@pytest.mark.parametrize("module", TREES)
def test_a_module_imports_only_what_the_table_allows(module: str) -> None:
    assert own(TREES[module]) <= ALLOWED.get(module, set())


def test_the_table_allows_nothing_that_is_not_used() -> None:
    used = {module: own(tree) for module, tree in TREES.items()}
    assert {module: ALLOWED.get(module, set()) - used[module] for module in used} == {
        module: set() for module in used
    }
    assert ALLOWED.keys() <= used.keys()


@pytest.mark.parametrize("package", sorted(PACKAGE.rglob("__init__.py")), ids=str)
def test_a_packages_own_file_imports_nothing(package: Path) -> None:
    assert list(imported(ast.parse(package.read_text()))) == []


def test_there_are_no_cycles() -> None:
    remaining = {module: own(tree) for module, tree in TREES.items()}
    while free := {module for module, others in remaining.items() if not others & remaining.keys()}:
        remaining = {module: others for module, others in remaining.items() if module not in free}
    assert not remaining


@pytest.mark.parametrize("module", TREES)
def test_imports_stand_at_the_top_of_the_file_except_in_ready(module: str) -> None:
    functions = [
        node
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    if module == "apps":
        functions = [function for function in functions if function.name != "ready"]
    assert [name for function in functions for name in imported(function)] == []


@pytest.mark.parametrize("module", CORE)
def test_the_core_knows_no_django(module: str) -> None:
    known = {name for name in imported(TREES[module]) if below(name, *DJANGO)}
    assert known <= CORE[module]


@pytest.mark.parametrize("module", TREES.keys() - {"conf"})
def test_only_conf_reads_djangos_settings(module: str) -> None:
    assert [name for name in imported(TREES[module]) if below(name, "django.conf")] == []


#: Which tables a module may touch. An entry is appended, numbered, read and deleted, by one each;
#: the head asks in which database entries are.
TABLES = {
    "log": {"Entry"},
    "numbering": {"Entry"},
    "history": {"Entry"},
    "retention": {"Entry"},
    "head": {"Entry", "Head"},
    "status": {"Process"},
    "tickets": {"Ticket"},
    "rules": {"AccessRule"},
    "rights": {"AccessRule"},
    "access_admin": {"AccessRule"},
}


@pytest.mark.parametrize("module", TREES.keys() - {"models"})
def test_a_module_touches_only_its_own_tables(module: str) -> None:
    names = {name for name in imported(TREES[module]) if below(name, f"{NAME}.models")}
    assert names == {f"{NAME}.models.{table}" for table in TABLES.get(module, ())}


@pytest.mark.parametrize("module", TREES.keys() - {"rights", "signal_handlers"})
def test_only_the_signal_handlers_hear_wagtail(module: str) -> None:
    signals = ("wagtail.signals", "django.db.models.signals")
    assert [name for name in imported(TREES[module]) if below(name, *signals)] == []


def test_nothing_needs_what_is_for_tests() -> None:
    assert [module for module, tree in TREES.items() if "testing" in own(tree)] == []


def test_writing_ends_at_the_log() -> None:
    delivery = {
        "askers",
        "changes",
        "feed",
        "history",
        "hub",
        "missed",
        "outbox",
        "past",
        "relay",
        "retention",
        "session",
        "source",
        "sse",
        "tail",
        "websocket",
    }
    reached, frontier = set(), {"rights", "signal_handlers"}
    while frontier:
        reached |= frontier
        frontier = {other for module in frontier for other in ALLOWED.get(module, ())} - reached
    assert not reached & delivery
