-- The owner makes and changes the schema. Whoever administers the database runs this
-- before the owner's first migration. Nobody else may put anything into the schema:
-- before PostgreSQL 15 everybody may, in "public".
GRANT CREATE ON SCHEMA :schema TO :owner;
GRANT USAGE ON SCHEMA :schema TO :owner WITH GRANT OPTION; -- to the other roles
REVOKE CREATE ON SCHEMA :schema FROM PUBLIC;
