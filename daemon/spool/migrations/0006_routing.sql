-- An instance goes to a destination only if its study ends so. Other legs are made
-- when the instance comes, these when the study is decided, whichever way that is
-- decided anew.
CREATE TABLE conditional_legs (
    instance_id INTEGER NOT NULL REFERENCES instances (id),
    destination TEXT    NOT NULL,
    outcomes    TEXT    NOT NULL,                  -- JSON: any of these
    PRIMARY KEY (instance_id, destination)
) STRICT, WITHOUT ROWID;

-- Some of its instances go nowhere, and it was said.
ALTER TABLE studies ADD COLUMN unrouted INTEGER NOT NULL DEFAULT 0;
CREATE INDEX studies_unrouted ON studies (id) WHERE unrouted = 1;
