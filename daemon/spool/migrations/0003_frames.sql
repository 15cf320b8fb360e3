-- Of an object of several frames, the finding of each. The finding of the object
-- itself says whether its triage is over.
CREATE TABLE frames (
    instance_id   INTEGER NOT NULL REFERENCES instances (id),
    frame         INTEGER NOT NULL CHECK (frame > 0),
    state         TEXT    NOT NULL CHECK (state IN ('classified', 'ineligible', 'failed')),
    reason        TEXT    NOT NULL,
    position      REAL    NOT NULL,
    acquired_at   INTEGER,
    models        TEXT    NOT NULL,                -- JSON
    provider      TEXT    NOT NULL,
    probabilities TEXT    NOT NULL,                -- JSON
    found_at      INTEGER NOT NULL,
    elapsed       INTEGER NOT NULL,                -- nanoseconds
    PRIMARY KEY (instance_id, frame)
) STRICT, WITHOUT ROWID;
