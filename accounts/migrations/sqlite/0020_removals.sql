-- How many changes have removed what must not stay in the files: who takes it out there sees whether somebody has removed
-- more meanwhile.
ALTER TABLE gateway ADD COLUMN removals INTEGER NOT NULL DEFAULT 0;
