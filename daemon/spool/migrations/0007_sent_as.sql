-- The transfer syntax in which an instance was sent, where that is not the stored one.

ALTER TABLE legs ADD COLUMN sent_as TEXT NOT NULL DEFAULT '';
