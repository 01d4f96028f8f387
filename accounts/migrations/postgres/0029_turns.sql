-- Work that one gateway does for all that share the store: when it is due next.

ALTER TABLE gateway ADD COLUMN purge_due_at BIGINT NOT NULL DEFAULT 0;

ALTER TABLE gateway ADD COLUMN look_due_at BIGINT NOT NULL DEFAULT 0;
