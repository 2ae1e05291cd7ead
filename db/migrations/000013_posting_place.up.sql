-- Where a candidate's posting lies, so that a claim need not look it up by its key.

ALTER TABLE candidates ADD COLUMN posting tid;

COMMENT ON COLUMN candidates.posting IS
    'Where the posting lay (ctid) when it became a candidate. Only a hint: who reads there compares the key.';
