ALTER TABLE accounts
    DROP COLUMN resumed_by,
    DROP COLUMN resumed_at;
