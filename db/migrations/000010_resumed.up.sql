-- Who ended the last pause of an account, and when: a pause that is over leaves no other trace.

ALTER TABLE accounts
    ADD COLUMN resumed_at timestamptz,
    ADD COLUMN resumed_by text,
    ADD CONSTRAINT accounts_resumed_whole CHECK ((resumed_at IS NULL) = (resumed_by IS NULL));

COMMENT ON COLUMN accounts.resumed_at IS 'When a person last ended a pause.';
COMMENT ON COLUMN accounts.resumed_by IS 'Who that was.';
