package e2e

// stallAt stops every insert of a bid on a posting until openGate, whoever makes it. Unlike a
// lock that the test holds, this is no reason for the server to give up the statement early.
func (f *fixture) stallAt(jobID string) {
	f.t.Helper()
	f.exec(`
		CREATE TABLE IF NOT EXISTS gate (opened boolean);
		GRANT SELECT ON gate TO PUBLIC; -- the trigger runs as the worker
		CREATE OR REPLACE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			WHILE NOT EXISTS (SELECT FROM gate) LOOP PERFORM pg_sleep(0.005); END LOOP;
			RETURN NEW;
		END $$;
		TRUNCATE gate`)
	// A trigger cannot have parameters in its condition.
	f.exec("CREATE OR REPLACE TRIGGER stall BEFORE INSERT ON bids FOR EACH ROW WHEN (NEW.job_id = '" + jobID + "') EXECUTE FUNCTION stall()")
}

// awaitStalled waits until n sessions are at the gate.
func (f *fixture) awaitStalled(n int) {
	f.t.Helper()
	f.await("the insert is stalled", `count(*) = $1 FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event = 'PgSleep'`, n)
}

// openGate lets everyone go on, and stalls nobody any more.
func (f *fixture) openGate() {
	f.t.Helper()
	f.exec("INSERT INTO gate VALUES (true)")
}
