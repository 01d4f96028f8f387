-- Whether a restore keeps the letter back: it may have been sent after the backup was made. Only an operator has it sent.
ALTER TABLE letters ADD COLUMN held INTEGER NOT NULL DEFAULT 0 CHECK (held IN (0, 1));
