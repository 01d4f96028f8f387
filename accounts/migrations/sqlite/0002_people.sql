-- Account life, archive, disclosure register and staff log. Every column is explained in inventory.toml.

ALTER TABLE accounts ADD COLUMN password BLOB;
ALTER TABLE accounts ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN cancelled_at INTEGER;

-- accounts.service_until is the latest end of these: NULL if one runs without end, 0 if there is none.
CREATE TABLE services (
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    ends_at INTEGER,
    PRIMARY KEY (account_id, name)
) STRICT;

INSERT INTO services (account_id, name, ends_at) SELECT id, 'vpn', service_until FROM accounts;

-- E-mail addresses that are not confirmed yet: of a registration, or where account_id is set, of a change.
CREATE TABLE pending_addresses (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token_hash BLOB NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    account_id INTEGER REFERENCES accounts (id),
    email BLOB NOT NULL,
    password BLOB,
    confirmation TEXT CHECK (confirmation IN ('of-age', 'responsible-adult')),
    requested_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    CHECK ((account_id IS NULL) = (password IS NOT NULL AND confirmation IS NOT NULL))
) STRICT;

CREATE INDEX pending_addresses_by_account ON pending_addresses (account_id);

CREATE TABLE codes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    code_hash BLOB NOT NULL UNIQUE CHECK (length(code_hash) = 32),
    service TEXT NOT NULL,
    days INTEGER NOT NULL CHECK (days > 0),
    made_at INTEGER NOT NULL
) STRICT;

CREATE TABLE archive (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL,
    value BLOB NOT NULL,
    reason TEXT NOT NULL CHECK (reason IN ('changed', 'cancelled')),
    archived_at INTEGER NOT NULL,
    keep_until INTEGER NOT NULL
) STRICT;

CREATE INDEX archive_by_account ON archive (account_id);

CREATE TABLE consents (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id INTEGER NOT NULL REFERENCES accounts (id),
    recipient BLOB NOT NULL,
    given_at INTEGER NOT NULL,
    withdrawn_at INTEGER
) STRICT;

CREATE INDEX consents_by_account ON consents (account_id);

-- The two hash-chained lists refer to no other table: an entry outlives what it tells of.

CREATE TABLE staff_log (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    verb TEXT NOT NULL,
    account_id INTEGER,
    data TEXT NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE INDEX staff_log_by_account ON staff_log (account_id);

CREATE TABLE disclosures (
    number INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    account_id INTEGER NOT NULL,
    basis TEXT NOT NULL,
    reference BLOB NOT NULL,
    recipient BLOB NOT NULL,
    secret_until INTEGER,
    content_hash BLOB NOT NULL CHECK (length(content_hash) = 32),
    hash BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE INDEX disclosures_by_account ON disclosures (account_id);

-- One row for each of the two: how many entries it ever had, and sealed, the key, head and foot of its chain.
CREATE TABLE chains (
    id INTEGER PRIMARY KEY CHECK (id IN (1, 2)),
    entries INTEGER NOT NULL,
    state BLOB NOT NULL
) STRICT;
