-- bids and postings, empty, as hash partitions by (marketplace, job_id): the real schema, and of its
-- constraints what Postgres allows. A unique index over all partitions must contain the key by which
-- they are made, so those on (id) and on the marketplace's id hold within a partition only, and
-- bid_events loses its foreign key. An experiment: no migration does this.
DO $$
DECLARE
    partitions constant integer := 8;
    of_table text;
    definition text;
    definitions text[];
BEGIN
    FOREACH of_table IN ARRAY ARRAY['postings', 'bids'] LOOP
        definitions := ARRAY(
            SELECT pg_get_triggerdef(t.oid) FROM pg_trigger AS t
            WHERE t.tgrelid = of_table::regclass AND NOT t.tgisinternal ORDER BY t.tgname)
            || ARRAY(SELECT pg_get_indexdef(i.indexrelid) FROM pg_index AS i
                WHERE i.indrelid = of_table::regclass ORDER BY i.indexrelid)
            || ARRAY(SELECT DISTINCT format('CREATE VIEW %s AS %s', r.ev_class::regclass, pg_get_viewdef(r.ev_class)) FROM pg_depend AS d
                JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
                WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = of_table::regclass);
        EXECUTE format('CREATE TABLE whole (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS) PARTITION BY HASH (marketplace, job_id)', of_table);
        EXECUTE format('DROP TABLE %I CASCADE', of_table);
        EXECUTE format('ALTER TABLE whole RENAME TO %I', of_table);
        FOR part IN 0 .. partitions - 1 LOOP
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
                of_table || '_' || part, of_table, partitions, part);
        END LOOP;
        FOREACH definition IN ARRAY definitions LOOP
            IF definition NOT LIKE 'CREATE UNIQUE INDEX %' OR definition LIKE '%(marketplace, job_id%' THEN
                EXECUTE definition;
                CONTINUE;
            END IF;
            FOR part IN 0 .. partitions - 1 LOOP
                EXECUTE regexp_replace(regexp_replace(definition, ' INDEX (\w+) ', format(' INDEX \1_%s ', part)),
                    format(' ON (\w+\.)?%s ', of_table), format(' ON \1%s_%s ', of_table, part));
            END LOOP;
        END LOOP;
    END LOOP;
END $$;
