"""The journal's tables. ``PRAGMA user_version`` counts the scripts that a file has had; scripts are only ever added."""

from __future__ import annotations

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (epoch INTEGER NOT NULL);
    INSERT INTO meta VALUES (0);
    CREATE TABLE steps (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL,
        step INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('accepted', 'running', 'done')),
        "order" TEXT,
        starts INTEGER NOT NULL DEFAULT 0,
        cancel INTEGER NOT NULL DEFAULT 0,
        before TEXT NOT NULL DEFAULT '',
        result TEXT,
        accepted REAL NOT NULL,
        done REAL,
        UNIQUE (job, step)
    );
    CREATE INDEX steps_unfinished ON steps (sequence) WHERE state != 'done';
    CREATE INDEX steps_done ON steps (done);
    CREATE TABLE ves (
        ve TEXT PRIMARY KEY,
        native TEXT NOT NULL,
        kind TEXT NOT NULL,
        spec TEXT,
        address TEXT NOT NULL,
        mac TEXT NOT NULL,
        generation_high INTEGER NOT NULL,
        generation_done INTEGER NOT NULL,
        presence TEXT NOT NULL,
        changed REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX ves_address ON ves (address) WHERE address != '';
    CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, full INTEGER NOT NULL, message TEXT NOT NULL);
    """,
    "ALTER TABLE steps ADD COLUMN deaths TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE steps ADD COLUMN notes TEXT NOT NULL DEFAULT '[]'",
)
