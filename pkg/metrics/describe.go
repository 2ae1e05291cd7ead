package metrics

import dto "github.com/prometheus/client_model/go"

// The names of the metrics.
const (
	runs            = "bidder_runs_total"
	runExits        = "bidder_run_exits_total"
	lastRun         = "bidder_last_run_timestamp_seconds"
	lockAttempts    = "bidder_lock_attempts_total"
	lockSuccesses   = "bidder_lock_successes_total"
	lockConflicts   = "bidder_lock_conflicts_total"
	lockTimeouts    = "bidder_lock_timeouts_total"
	attempts        = "bidder_attempts_total"
	deliveries      = "bidder_deliveries_total"
	refreshed       = "bidder_refreshed_total"
	liveBids        = "bidder_live_bids"
	owedDeliveries  = "bidder_owed_deliveries"
	oldestOwed      = "bidder_oldest_owed_delivery_age_seconds"
	oldestOverdue   = "bidder_oldest_overdue_delivery_age_seconds"
	reviewWaiting   = "bidder_review_waiting"
	approvalWaiting = "bidder_approval_waiting"
	oldestReview    = "bidder_oldest_review_age_seconds"
	candidates      = "bidder_candidates"
	oldestCandidate = "bidder_oldest_due_candidate_age_seconds"
	pausedAccounts  = "bidder_paused_accounts"
	capUsed         = "bidder_cap_used"
	capLimit        = "bidder_cap_limit"
	schemaVersion   = "bidder_schema_version"
	buildInfo       = "bidder_build_info"
	readAt          = "bidder_read_timestamp_seconds"
)

// A Description is what is known of a metric before it is read.
type Description struct {
	Name, Help string
	// Counter is a metric that only grows; all others are gauges.
	Counter bool
	Labels  []string
}

// Descriptions are those of all metrics, in the order in which they are written.
func Descriptions() []Description {
	counter := func(name, help string, labels ...string) Description { return Description{name, help, true, labels} }
	gauge := func(name, help string, labels ...string) Description { return Description{name, help, false, labels} }
	return []Description{
		counter(runs, "Runs that were started: run, bid or withdraw.", "kind"),
		counter(runExits, "Runs that have ended, by their exit code; killed ones once they were silent for a day.", "kind", "exit_code"),
		gauge(lastRun, "When a run last finished, whatever its exit code; 0 where none has.", "kind"),
		counter(lockAttempts, "Attempts to get the lock of a posting."),
		counter(lockSuccesses, "Attempts that got it."),
		counter(lockConflicts, "Attempts whose first try failed."),
		counter(lockTimeouts, "Attempts that gave up."),
		counter(attempts, "Attempts to bid, by their outcome.", "outcome"),
		counter(deliveries, "Attempts to deliver what bids owe, by their result.", "kind", "result"),
		counter(refreshed, "Look-ups of live bids, by what they showed.", "result"),
		gauge(liveBids, "Bids that are live.", "marketplace"),
		gauge(owedDeliveries, "Bids that owe a delivery, by its kind and state.", "marketplace", "kind", "state"),
		gauge(oldestOwed, "How long the oldest delivery that needs no person has been owed, since it was claimed, asked for, approved or last sent; 0 where there is none."),
		gauge(oldestOverdue, "How long the longest due delivery has been due without anybody working on it; 0 where there is none."),
		gauge(reviewWaiting, "Deliveries that wait for a person in review."),
		gauge(approvalWaiting, "Bids that wait for a person to approve them."),
		gauge(oldestReview, "How long the oldest delivery in review has waited for a person; 0 where there is none."),
		gauge(candidates, "Postings in the queue: due, later, or parked after too many failures.", "state"),
		gauge(oldestCandidate, "How long the first posting in the queue has been due; 0 where there is none."),
		gauge(pausedAccounts, "Pauses in force, of an account, a marketplace or everything."),
		gauge(capUsed, "What is used of a cap: bids, or hundredths of the currency.", "marketplace", "account", "cap", "currency"),
		gauge(capLimit, "The cap: bids, or hundredths of the currency.", "marketplace", "account", "cap", "currency"),
		gauge(schemaVersion, "The version of the database's schema."),
		gauge(buildInfo, "Always 1: which program has read the metrics.", "version", "go_version"),
		gauge(readAt, "When the metrics were read, by the database's clock."),
	}
}

func (d Description) family() *dto.MetricFamily {
	kind := dto.MetricType_GAUGE
	if d.Counter {
		kind = dto.MetricType_COUNTER
	}
	return &dto.MetricFamily{Name: &d.Name, Help: &d.Help, Type: &kind}
}

// sample makes a sample of a metric with the values of its labels, in their order.
func (d Description) sample(value float64, labels []string) *dto.Metric {
	m := &dto.Metric{}
	for i, label := range labels {
		m.Label = append(m.Label, &dto.LabelPair{Name: &d.Labels[i], Value: &label})
	}
	if d.Counter {
		m.Counter = &dto.Counter{Value: &value}
	} else {
		m.Gauge = &dto.Gauge{Value: &value}
	}
	return m
}
