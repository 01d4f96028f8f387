-- The privacy rules, who agreed to them by use, and letters on their way. Every column is explained in inventory.toml.

CREATE TABLE rules (
    version INTEGER PRIMARY KEY,
    published_at INTEGER NOT NULL,
    effective_at INTEGER NOT NULL,
    significant INTEGER NOT NULL CHECK (significant IN (0, 1)),
    summary TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE rules_acceptances (
    account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    version INTEGER NOT NULL REFERENCES rules (version),
    accepted_on INTEGER NOT NULL,
    PRIMARY KEY (account_id, version)
) STRICT;

-- A letter that tells of rules goes to the account's address and stays as proof that it was sent. Any other has its
-- address in content, and its row goes once it is sent.
CREATE TABLE letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    account_id INTEGER REFERENCES accounts (id) ON DELETE CASCADE,
    rules_version INTEGER REFERENCES rules (version),
    content BLOB,
    message_id TEXT UNIQUE,
    queued_at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'sending', 'sent', 'doubtful', 'refused')),
    state_since INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reply_code INTEGER,
    UNIQUE (account_id, rules_version),
    CHECK ((rules_version IS NULL) = (content IS NOT NULL)),
    CHECK (rules_version IS NULL OR account_id IS NOT NULL)
) STRICT;

CREATE INDEX letters_by_state ON letters (state, due_at);
