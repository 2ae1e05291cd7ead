-- System columns that queries name, described here so that they can be compiled. Never run.
ALTER TABLE candidates ADD COLUMN ctid tid NOT NULL;
ALTER TABLE postings ADD COLUMN ctid tid NOT NULL;
ALTER TABLE postings ADD COLUMN xmin xid NOT NULL;
ALTER TABLE postings ADD COLUMN tableoid oid NOT NULL;
