package posting

// A Record is a posting as a line of input spells it, for programs that write such lines: its
// JSON is what a [Decoder] reads, and what is empty is left out. Amounts are decimals, times
// are in RFC 3339.
type Record struct {
	Marketplace string     `json:"marketplace"`
	JobID       string     `json:"job_id"`
	Title       string     `json:"title"`
	CachedAt    string     `json:"cached_at,omitempty"`
	Description string     `json:"description,omitempty"`
	URL         string     `json:"url,omitempty"`
	BudgetMin   string     `json:"budget_min,omitempty"`
	BudgetMax   string     `json:"budget_max,omitempty"`
	Currency    string     `json:"currency,omitempty"`
	Pricing     string     `json:"pricing,omitempty"`
	Skills      []string   `json:"skills,omitempty"`
	PostedAt    string     `json:"posted_at,omitempty"`
	Deadline    string     `json:"deadline,omitempty"`
	Bid         *RecordBid `json:"bid,omitempty"`
}

// A RecordBid is the bid that a Record asks for.
type RecordBid struct {
	Amount     string `json:"amount,omitempty"`
	PeriodDays int32  `json:"period_days,omitempty"`
	Proposal   string `json:"proposal,omitempty"`
}
