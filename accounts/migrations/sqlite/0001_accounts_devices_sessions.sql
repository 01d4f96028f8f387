-- Every column is explained in inventory.toml. Times are seconds since 1970 (UTC). What it calls sealed is sealed with a
-- data key that is not here.

CREATE TABLE accounts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    email BLOB NOT NULL,
    email_hash BLOB NOT NULL UNIQUE CHECK (length(email_hash) = 32),
    confirmation TEXT NOT NULL CHECK (confirmation IN ('of-age', 'responsible-adult')),
    created_at INTEGER NOT NULL,
    service_until INTEGER
) STRICT;

CREATE TABLE devices (
    id INTEGER PRIMARY KEY,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    public_key BLOB NOT NULL UNIQUE CHECK (length(public_key) = 32),
    preshared_key BLOB NOT NULL,
    address_offset INTEGER NOT NULL UNIQUE CHECK (address_offset >= 2),
    created_at INTEGER NOT NULL,
    UNIQUE (account_id, name)
) STRICT;

-- The numbers that a device had before its key was rotated.
CREATE TABLE rotated_devices (
    former_id INTEGER PRIMARY KEY,
    device_id INTEGER NOT NULL REFERENCES devices (id) ON UPDATE CASCADE ON DELETE CASCADE
) STRICT;

CREATE INDEX rotated_devices_by_device ON rotated_devices (device_id);

CREATE TABLE sessions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    -- No reference: the row outlives its device.
    device_id INTEGER NOT NULL,
    connecting_ip BLOB NOT NULL,
    began_at INTEGER NOT NULL,
    ended_at INTEGER CHECK (ended_at >= began_at)
) STRICT;

CREATE UNIQUE INDEX sessions_open_by_device ON sessions (device_id) WHERE ended_at IS NULL;

CREATE INDEX sessions_by_account ON sessions (account_id, began_at);

-- One row: the networks that addresses are issued from, and what is issued next.
CREATE TABLE tunnel_pool (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    network_v4 TEXT NOT NULL,
    network_v6 TEXT NOT NULL,
    next_offset INTEGER NOT NULL,
    next_device_id INTEGER NOT NULL
) STRICT;

-- Addresses below next_offset that no device has; quarantined_until is NULL once one may be issued again.
CREATE TABLE freed_addresses (
    address_offset INTEGER PRIMARY KEY,
    quarantined_until INTEGER
) STRICT;

CREATE INDEX freed_addresses_by_quarantine ON freed_addresses (quarantined_until, address_offset);

-- One row: when the gateway was last known to run, and whether what was removed may still be in the bytes of the files.
CREATE TABLE gateway (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    last_alive_at INTEGER,
    scrub_due INTEGER NOT NULL CHECK (scrub_due IN (0, 1))
) STRICT;

INSERT INTO gateway (id, last_alive_at, scrub_due) VALUES (1, NULL, 0);

-- The data keys that values are sealed with: one, or two while they are sealed anew. Only a key's number and a sealed
-- text that is known, to tell whether a key is the right one.
CREATE TABLE data_keys (
    id INTEGER PRIMARY KEY,
    check_value BLOB NOT NULL
) STRICT;
