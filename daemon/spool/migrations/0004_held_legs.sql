-- A leg that a person has parked: neither a start nor a second sending makes it due.

ALTER TABLE legs ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
