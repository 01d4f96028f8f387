-- Gateways that share the store; each closes its own sessions. What was there before is the first one's.

CREATE TABLE gateways (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    -- Tells two gateways of one name apart; empty for the first one until it says.
    identity TEXT UNIQUE,
    last_alive_at INTEGER,
    -- How many groups of changes of sessions it has written, so that none is written twice.
    session_groups INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO gateways (id, name, last_alive_at) SELECT 1, 'gateway', last_alive_at FROM gateway;

ALTER TABLE gateway DROP COLUMN last_alive_at;

-- How often devices were removed or got another key, for gateways to see that they were.
ALTER TABLE gateway ADD COLUMN device_changes INTEGER NOT NULL DEFAULT 0;

-- The gateway that has yet to say when the session ended; empty once it has. With an end, another gateway has said so
-- because that one was silent for long, and it may still be corrected.
ALTER TABLE sessions ADD COLUMN gateway_id INTEGER;

UPDATE sessions SET gateway_id = 1 WHERE ended_at IS NULL;

DROP INDEX sessions_open_by_device;

CREATE UNIQUE INDEX sessions_by_gateway ON sessions (gateway_id, device_id) WHERE gateway_id IS NOT NULL;

-- The gateway that has taken the letter to the mail server, or is about to.
ALTER TABLE letters ADD COLUMN gateway_id INTEGER;

UPDATE letters SET gateway_id = 1;
