-- Times are nanoseconds since 1970 UTC, NULL where there is none yet.

CREATE TABLE studies (
    id                 INTEGER PRIMARY KEY,
    study_instance_uid TEXT    NOT NULL UNIQUE,
    pseudonym          TEXT    NOT NULL,
    revision           INTEGER NOT NULL,           -- grows with every instance
    open               INTEGER NOT NULL DEFAULT 1, -- a final decision is due
    released           INTEGER NOT NULL DEFAULT 0, -- the association that brought the last instance ended in order
    urgent             INTEGER NOT NULL DEFAULT 0, -- an alert stands
    first_received     INTEGER NOT NULL,
    last_received      INTEGER NOT NULL,
    outcome            TEXT CHECK (outcome IN ('POSITIVE', 'NEGATIVE', 'NOT-ANALYSED', 'FAILED')),
    outcome_seq        INTEGER NOT NULL DEFAULT 0, -- of its last outcome message
    outcome_message    BLOB,                       -- that message
    decided_at         INTEGER
) STRICT;

CREATE INDEX studies_open ON studies (id) WHERE open = 1;
CREATE INDEX studies_received ON studies (first_received);
CREATE INDEX studies_pseudonym ON studies (pseudonym);

CREATE TABLE instances (
    id                  INTEGER PRIMARY KEY AUTOINCREMENT,
    study_id            INTEGER NOT NULL REFERENCES studies (id),
    name                TEXT    NOT NULL,          -- ULID of the file
    sop_instance_uid    TEXT    NOT NULL,
    sop_class_uid       TEXT    NOT NULL,
    series_instance_uid TEXT    NOT NULL,
    transfer_syntax_uid TEXT    NOT NULL,
    calling_ae_title    TEXT    NOT NULL,
    sha256              BLOB    NOT NULL,          -- of the data set
    size                INTEGER NOT NULL,          -- of the data set
    data_offset         INTEGER NOT NULL,          -- of the data set in the file
    received_at         INTEGER NOT NULL,
    state               TEXT    NOT NULL DEFAULT 'stored'
                        CHECK (state IN ('stored', 'missing', 'removing', 'removed')),
    removed_at          INTEGER
) STRICT;

CREATE UNIQUE INDEX instances_content ON instances (sop_instance_uid, sha256);
CREATE INDEX instances_study ON instances (study_id);
CREATE INDEX instances_removing ON instances (id) WHERE state = 'removing';

CREATE TABLE legs (
    id           INTEGER PRIMARY KEY,
    instance_id  INTEGER NOT NULL REFERENCES instances (id),
    destination  TEXT    NOT NULL,
    state        TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'parked')),
    urgent       INTEGER NOT NULL DEFAULT 0,       -- as the study's
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_attempt INTEGER NOT NULL DEFAULT 0,
    last_status  INTEGER NOT NULL DEFAULT 0,
    last_reason  TEXT    NOT NULL DEFAULT '',
    done_at      INTEGER,
    UNIQUE (instance_id, destination)
) STRICT;

CREATE INDEX legs_due ON legs (destination, attempts >= 3, urgent DESC, instance_id) WHERE state = 'pending';

CREATE INDEX legs_parked ON legs (destination) WHERE state = 'parked';

CREATE TABLE findings (
    instance_id   INTEGER PRIMARY KEY REFERENCES instances (id),
    state         TEXT    NOT NULL DEFAULT 'pending'
                  CHECK (state IN ('pending', 'classified', 'ineligible', 'failed')),
    urgent        INTEGER NOT NULL DEFAULT 0,      -- as the study's
    reason        TEXT    NOT NULL DEFAULT '',
    position      REAL    NOT NULL DEFAULT 0,
    acquired_at   INTEGER,
    models        TEXT    NOT NULL DEFAULT '[]',   -- JSON
    provider      TEXT    NOT NULL DEFAULT '',
    probabilities TEXT    NOT NULL DEFAULT '[]',   -- JSON
    found_at      INTEGER,
    elapsed       INTEGER NOT NULL DEFAULT 0       -- nanoseconds
) STRICT;

CREATE INDEX findings_failed ON findings (instance_id) WHERE state = 'failed';
CREATE INDEX findings_pending ON findings (urgent DESC, instance_id) WHERE state = 'pending';

CREATE TABLE alerts (
    alert_id         TEXT    PRIMARY KEY,
    study_id         INTEGER NOT NULL REFERENCES studies (id),
    number           INTEGER NOT NULL,             -- among the study's alerts, from 1
    seq              INTEGER NOT NULL,             -- of its last message
    level            INTEGER NOT NULL DEFAULT 0,   -- of escalation
    state            TEXT    NOT NULL
                     CHECK (state IN ('new', 'delivered', 'escalated', 'acknowledged', 'retracted')),
    message          BLOB    NOT NULL,             -- its last message
    raised_at        INTEGER NOT NULL,
    delivered_at     INTEGER,                      -- the first notice confirmed by the broker
    level_since      INTEGER,                      -- the message of the present level likewise
    retracted_at     INTEGER,
    acknowledged_at  INTEGER,
    stated_at        INTEGER,                      -- by the clock of the person's device
    acknowledged_by  TEXT    NOT NULL DEFAULT '',
    acknowledged_via TEXT    NOT NULL DEFAULT '',
    comment          TEXT    NOT NULL DEFAULT '',
    UNIQUE (study_id, number)
) STRICT;

CREATE INDEX alerts_waiting ON alerts (level_since) WHERE state IN ('delivered', 'escalated');

CREATE TABLE outbox (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    key          TEXT    NOT NULL,                 -- order is kept within it
    topic        TEXT    NOT NULL,
    payload      BLOB    NOT NULL,
    qos          INTEGER NOT NULL,
    retain       INTEGER NOT NULL,
    alert_id     TEXT    REFERENCES alerts (alert_id), -- NULL for other topics
    alert_type   TEXT,
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_attempt INTEGER NOT NULL DEFAULT 0,
    last_reason  TEXT    NOT NULL DEFAULT '',
    created_at   INTEGER NOT NULL,
    delivered_at INTEGER
) STRICT;

CREATE INDEX outbox_pending ON outbox (key, id) WHERE delivered_at IS NULL;

CREATE TABLE events (
    id          INTEGER PRIMARY KEY,
    at          INTEGER NOT NULL,
    kind        TEXT    NOT NULL,
    study       TEXT    NOT NULL DEFAULT '',       -- pseudonym
    instance_id INTEGER,
    detail      TEXT    NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX events_at ON events (at);
