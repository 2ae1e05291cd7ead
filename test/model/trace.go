package model

import (
	"fmt"
	"strings"
)

func (s *state) String() string {
	var parts []string
	for r, b := range s.rows {
		if b.status == absent {
			continue
		}
		words := []string{fmt.Sprintf("bid %d %s", r+1, [...]string{active: "ACTIVE", withdrawn: "WITHDRAWN", rejected: "REJECTED"}[b.status])}
		say := func(on bool, format string, args ...any) {
			if on {
				words = append(words, fmt.Sprintf(format, args...))
			}
		}
		say(b.kind == place, "owes place")
		say(b.kind == withdraw, "owes withdraw")
		say(b.phase != none, "%s", [...]string{none: "", pending: "pending", leased: "leased", review: "in review"}[b.phase])
		say(b.expired, "(run out)")
		say(b.posts > 0, "posts=%d", b.posts)
		say(b.settled, "settled")
		say(b.asked, "withdrawal requested")
		say(b.id > 0, "id=#%d", b.id)
		say(b.flying > 0, "POSTs under way=%d", b.flying)
		parts = append(parts, strings.Join(words, " "))
	}
	for j, b := range s.bids {
		if b.state != unseen {
			parts = append(parts, fmt.Sprintf("#%d %s, shown as %s", j+1, b.state, b.shown))
		}
	}
	for _, w := range s.workers {
		if w.step == idle {
			continue
		}
		owner := "an old token"
		if w.mine {
			owner = "the lease"
		}
		parts = append(parts, fmt.Sprintf("pod %s, with %s", w.step, owner))
	}
	return strings.Join(parts, " | ")
}

func (s step) String() string {
	return [...]string{
		idle: "idle", judgedClaim: "about to claim", leasedPlace: "about to look", heldFinding: "about to judge",
		tookCheck: "about to read", aboutToArm: "about to arm", armed: "about to POST", sent: "waiting for the answer", leasedRemove: "about to look",
		aboutToTake: "about to retract", taking: "waiting for the answer", tookBack: "about to read again", deciding: "about to record",
	}[s]
}

func (a act) String() string {
	what := strings.ReplaceAll(a.what, breach, "")
	switch {
	case a.worker > 0:
		return fmt.Sprintf("pod, bid %d: %s", a.row+1, what)
	case a.bid > 0:
		return fmt.Sprintf("#%d: %s", a.bid, what)
	default:
		return fmt.Sprintf("bid %d: %s", a.row+1, what)
	}
}

func (t there) String() string {
	return [...]string{unseen: "nothing", live: "live", takenBack: "withdrawn", refused: "rejected"}[t]
}
