-- The table of golang-migrate, described here so that queries on it can be compiled. Never run.
CREATE TABLE schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL);
