-- The verdicts of readers on alerts. None is ever changed; the last one holds.
CREATE TABLE readings (
    alert_id TEXT    NOT NULL REFERENCES alerts (alert_id),
    number   INTEGER NOT NULL CHECK (number > 0),
    verdict  TEXT    NOT NULL CHECK (verdict IN ('confirmed', 'false-alarm', 'unsure')),
    by       TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    via      TEXT    NOT NULL,
    comment  TEXT    NOT NULL,
    PRIMARY KEY (alert_id, number)
) STRICT, WITHOUT ROWID;
