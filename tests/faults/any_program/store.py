"""A server whose store is emptied between two programs, which takes no time, instead of started anew."""

import shutil
import sqlite3
from pathlib import Path


class Store:
    """The SQLite store and the artifacts of a server, as they are now: what `reset` goes back to."""

    def __init__(self, folder: Path) -> None:
        self.database, self.artifacts = folder / "server.db", folder / "artifacts"
        self.first = folder / "first.db"
        with sqlite3.connect(self.database) as source, sqlite3.connect(self.first) as target:
            source.backup(target)
        source.close()
        target.close()

    def reset(self) -> None:
        """Forget everything that was stored."""
        connection = sqlite3.connect(self.database, timeout=30)
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("ATTACH ? AS first", (str(self.first),))
        with connection:
            tables = connection.execute(
                "SELECT name FROM main.sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            ).fetchall()
            for (name,) in tables:
                connection.execute(f'DELETE FROM main."{name}"')
                # Generated columns aren't among these, and can't be written.
                rows = connection.execute(f'PRAGMA main.table_info("{name}")').fetchall()
                columns = ", ".join(f'"{row[1]}"' for row in rows)
                connection.execute(
                    f'INSERT INTO main."{name}" ({columns}) SELECT {columns} FROM first."{name}"'
                )
        connection.close()
        shutil.rmtree(self.artifacts, ignore_errors=True)
