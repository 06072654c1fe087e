"""The databases of the stage: private ones in a temporary folder, on ports of their own."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pymysql

from tests.chaos.service import Service, as_user, program
from tests.servers import free_port

DEBIAN_POSTGRES = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
NAME = "newsroom"
#: Where a dump is loaded that is to come back all at once.
BESIDE = f"{NAME}_restored"
#: The log as it is numbered; a uuid is text with or without dashes, or the driver's own.
LOG = (
    "SELECT position, uuid, model, object_id FROM wagtail_live_entry "
    "WHERE position > {after} ORDER BY position"
)
UNNUMBERED = "SELECT COUNT(*) FROM wagtail_live_entry WHERE position IS NULL"


class Database:
    """What the stage needs of any database."""

    #: What of the private server runs as a process; SQLite has none.
    service: Service | None = None
    #: The port that a proxy may stand before.
    port: int | None = None
    #: Whether an operator leaves the servers running while a backup is put back.
    restores_in_place = True

    def url(self, port: int | None = None) -> str:
        """Return the DATABASE_URL; by way of ``port`` when given."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make the data folder, start the server, create the database."""

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a statement of ours on a connection of its own."""
        raise NotImplementedError

    def backup(self) -> None:
        raise NotImplementedError

    def restore(self) -> None:
        raise NotImplementedError

    def terminate_connections(self) -> None:
        """End every connection to the database, as an operator may."""

    def is_free(self) -> bool:
        """Return whether a backup could be put back now, whoever sleeps meanwhile."""
        return True

    def log(self, after: int) -> list[tuple[int, str, str, str]]:
        """Return the numbered entries after a position: position, uuid (hex), model, key."""
        rows = self.query(LOG.format(after=int(after)))
        return [(at, str(uuid).replace("-", ""), model, key) for at, uuid, model, key in rows]

    def unnumbered(self) -> int:
        return int(self.query(UNNUMBERED)[0][0])


class SQLite(Database):
    """A file. Its backup is a copy, which SQLite itself puts back."""

    restores_in_place = False

    def __init__(self, folder: Path) -> None:
        self.path = folder / "newsroom.sqlite3"
        self.copy = folder / "backup.sqlite3"

    def url(self, port: int | None = None) -> str:
        return f"sqlite:///{self.path}"

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self.path, timeout=30)
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()

    def backup(self) -> None:
        self._copy(self.path, self.copy)

    def restore(self) -> None:
        self._copy(self.copy, self.path)

    def is_free(self) -> bool:
        connection = sqlite3.connect(self.path, timeout=0)
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:  # somebody is writing
            return False
        else:
            return True
        finally:
            connection.close()

    def _copy(self, path: Path, to: Path) -> None:
        source, target = sqlite3.connect(path, timeout=30), sqlite3.connect(to, timeout=30)
        try:
            source.backup(target)
        finally:
            target.close()
            source.close()


class _PostgresServer(Service):
    def __init__(self, folder: Path) -> None:
        super().__init__("postgres", folder)
        for name in ("initdb", "postgres", "pg_dump", "pg_restore"):
            self.tool(name)  # before anything is begun
        self.port = free_port()
        self.data = folder / "postgres"
        self.data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.data, "postgres", "postgres")
        self.data.chmod(0o700)

    def tool(self, name: str) -> str:
        return program(name, *map(str, DEBIAN_POSTGRES))

    def initialise(self) -> None:
        command = [
            self.tool("initdb"), "-D", str(self.data), "-A", "trust", "-U", "postgres",
            "-E", "UTF8", "--locale=C", "--no-sync",
        ]  # fmt: skip
        subprocess.run(as_user("postgres", command), check=True, capture_output=True, cwd="/")

    def command(self) -> list[str]:
        # Without fsync: a process is killed here, not the machine, and the kernel keeps its writes.
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            "max_connections": "60",
        }
        switches = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [
            self.tool("postgres"), "-D", str(self.data), "-p", str(self.port), *switches,
        ]  # fmt: skip
        return as_user("postgres", command)

    def answers(self) -> bool:
        try:
            psycopg.connect(
                host="127.0.0.1", port=self.port, user="postgres", dbname="postgres",
                connect_timeout=2,
            ).close()  # fmt: skip
        except psycopg.OperationalError:
            return False
        return True


class PostgreSQL(Database):
    """A cluster of its own. Its backup is a dump, put back into a fresh database."""

    service: _PostgresServer

    def __init__(self, folder: Path) -> None:
        self.service = _PostgresServer(folder)
        self.port = self.service.port
        self.dump = folder / "backup.dump"

    def url(self, port: int | None = None) -> str:
        return f"postgres://postgres@127.0.0.1:{port or self.port}/{NAME}"

    def prepare(self) -> None:
        self.service.initialise()
        self.service.start()
        self._administer(f"CREATE DATABASE {NAME}")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url(), connect_timeout=5) as connection:
            return connection.execute(statement).fetchall()

    def backup(self) -> None:
        self._tool("pg_dump", "--format=custom", f"--file={self.dump}", f"--dbname={self.url()}")

    def restore(self) -> None:
        self._administer(f"DROP DATABASE {NAME} WITH (FORCE)")
        self._administer(f"CREATE DATABASE {NAME}")
        self._tool("pg_restore", f"--dbname={self.url()}", "--single-transaction", str(self.dump))

    def terminate_connections(self) -> None:
        self._administer(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "  # noqa: S608 - our own words
            f"WHERE datname = '{NAME}'"
        )

    def _administer(self, statement: str) -> None:
        where = f"postgres://postgres@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(where, autocommit=True) as connection:
            connection.execute(statement)

    def _tool(self, name: str, *arguments: str) -> None:
        subprocess.run([self.service.tool(name), *arguments], check=True, capture_output=True)


class _MariaServer(Service):
    def __init__(self, folder: Path) -> None:
        super().__init__("mariadb", folder)
        for name in ("mariadb-install-db", "mariadbd", "mariadb-dump", "mariadb"):
            self.tool(name)  # before anything is begun
        self.port = free_port()
        self.data = folder / "mariadb"
        self.data.mkdir()
        if os.geteuid() == 0:
            shutil.chown(self.data, "mysql", "mysql")

    def tool(self, name: str) -> str:
        return program(name, "/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin")

    def initialise(self) -> None:
        command = [
            self.tool("mariadb-install-db"), "--no-defaults",
            f"--datadir={self.data}", "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ]  # fmt: skip
        if os.geteuid() == 0:
            command.append("--user=mysql")
        subprocess.run(command, check=True, capture_output=True)

    def command(self) -> list[str]:
        command = [
            self.tool("mariadbd"), "--no-defaults",
            f"--datadir={self.data}", f"--port={self.port}", "--bind-address=127.0.0.1",
            f"--socket={self.data}/chaos.sock", f"--pid-file={self.data}/chaos.pid",
            "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M",
            "--character-set-server=utf8mb4",
        ]  # fmt: skip
        return as_user("mysql", command)

    def answers(self) -> bool:
        try:
            pymysql.connect(
                host="127.0.0.1", port=self.port, user="root", connect_timeout=2
            ).close()
        except pymysql.MySQLError:
            return False
        return True


class MariaDB(Database):
    """A server of its own. Its backup is a dump, put back into a fresh database."""

    service: _MariaServer

    def __init__(self, folder: Path) -> None:
        self.service = _MariaServer(folder)
        self.port = self.service.port
        self.dump = folder / "backup.sql"

    def url(self, port: int | None = None) -> str:
        return f"mysql://root@127.0.0.1:{port or self.port}/{NAME}"

    def prepare(self) -> None:
        self.service.initialise()
        self.service.start()
        self._administer(f"CREATE DATABASE {NAME} CHARACTER SET utf8mb4")

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        return self._run(statement, NAME)

    def backup(self) -> None:
        command = [self.service.tool("mariadb-dump"), *self._where(), "--single-transaction", NAME]
        with self.dump.open("wb") as output:
            subprocess.run(command, check=True, stdout=output, stderr=subprocess.PIPE)

    def restore(self) -> None:
        # A dump comes back table by table. Nobody is to see half of it: it is loaded beside, and
        # then all tables are there at once.
        self._administer(f"CREATE OR REPLACE DATABASE {BESIDE} CHARACTER SET utf8mb4")
        with self.dump.open("rb") as source:
            subprocess.run(
                [self.service.tool("mariadb"), *self._where(), BESIDE],
                check=True,
                stdin=source,
                capture_output=True,
            )
        try:
            self._administer(f"SET STATEMENT lock_wait_timeout=3 FOR DROP DATABASE {NAME}")
        except pymysql.MySQLError:  # somebody sleeps in a transaction
            self.terminate_connections()
            self._administer(f"DROP DATABASE {NAME}")
        self._administer(f"CREATE DATABASE {NAME} CHARACTER SET utf8mb4")
        tables = [name for (name,) in self._run("SHOW TABLES", BESIDE)]
        moves = ", ".join(f"{BESIDE}.`{name}` TO {NAME}.`{name}`" for name in tables)
        self._administer(f"RENAME TABLE {moves}")

    def terminate_connections(self) -> None:
        for number, *_ in self._run(
            f"SELECT id FROM information_schema.processlist WHERE db = '{NAME}'",  # noqa: S608 - our own words
            None,
        ):
            try:
                self._administer(f"KILL {number}")
            except pymysql.MySQLError:
                continue  # it ended by itself

    def _where(self) -> list[str]:
        return ["--no-defaults", "--host=127.0.0.1", f"--port={self.port}", "--user=root"]

    def _administer(self, statement: str) -> None:
        self._run(statement, None)

    def _run(self, statement: str, database: str | None) -> list[tuple[Any, ...]]:
        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user="root", database=database,
            autocommit=True, connect_timeout=5, read_timeout=60,
        )  # fmt: skip
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())


KINDS: dict[str, type[Any]] = {"sqlite": SQLite, "postgresql": PostgreSQL, "mariadb": MariaDB}
