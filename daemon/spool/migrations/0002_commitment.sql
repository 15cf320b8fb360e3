-- Storage commitment (PS3.4 Annex J).

-- What peers asked of us, until the report was delivered.
CREATE TABLE transactions (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- never that of another one
    peer            TEXT    NOT NULL,              -- AE title
    transaction_uid TEXT    NOT NULL,
    request         BLOB    NOT NULL,              -- data set in Explicit VR Little Endian
    state           TEXT    NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'parked')),
    requested_at    INTEGER NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,    -- to deliver the report
    next_attempt    INTEGER NOT NULL DEFAULT 0,
    last_reason     TEXT    NOT NULL DEFAULT '',
    settled_at      INTEGER,
    UNIQUE (peer, transaction_uid)
) STRICT;

CREATE INDEX transactions_open ON transactions (peer, next_attempt) WHERE state = 'open';

-- What we asked of destinations. A report may come late, to a request that is over.
CREATE TABLE commitment_requests (
    id              INTEGER PRIMARY KEY,
    transaction_uid TEXT    NOT NULL UNIQUE,
    destination     TEXT    NOT NULL,
    state           TEXT    NOT NULL DEFAULT 'asking' CHECK (state IN ('asking', 'asked', 'over')),
    requested_at    INTEGER NOT NULL,
    deadline        INTEGER NOT NULL               -- of the report
) STRICT;

CREATE INDEX commitment_requests_open ON commitment_requests (destination) WHERE state <> 'over';

-- A leg that is sent waits for the destination's commitment.
CREATE TABLE new_legs (
    id           INTEGER PRIMARY KEY,
    instance_id  INTEGER NOT NULL REFERENCES instances (id),
    destination  TEXT    NOT NULL,
    state        TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'sent', 'done', 'parked')),
    urgent       INTEGER NOT NULL DEFAULT 0,       -- as the study's
    attempts     INTEGER NOT NULL DEFAULT 0,
    next_attempt INTEGER NOT NULL DEFAULT 0,       -- to send it, or to ask for its commitment
    last_status  INTEGER NOT NULL DEFAULT 0,
    last_reason  TEXT    NOT NULL DEFAULT '',
    sent_at      INTEGER,
    asked        INTEGER NOT NULL DEFAULT 0,       -- how often in vain, since it was sent
    refused      INTEGER NOT NULL DEFAULT 0,       -- how often the destination did not commit itself
    request_id   INTEGER REFERENCES commitment_requests (id), -- that asks for it now
    done_at      INTEGER,
    UNIQUE (instance_id, destination)
) STRICT;

INSERT INTO new_legs (id, instance_id, destination, state, urgent, attempts, next_attempt, last_status, last_reason, done_at)
    SELECT id, instance_id, destination, state, urgent, attempts, next_attempt, last_status, last_reason, done_at FROM legs;
DROP TABLE legs;
ALTER TABLE new_legs RENAME TO legs;

CREATE INDEX legs_due ON legs (destination, attempts >= 3, urgent DESC, instance_id) WHERE state = 'pending';
CREATE INDEX legs_parked ON legs (destination) WHERE state = 'parked';
CREATE INDEX legs_sent ON legs (destination, next_attempt) WHERE state = 'sent';
CREATE INDEX legs_asked ON legs (request_id) WHERE request_id IS NOT NULL;
