package model

import (
	"fmt"
	"strings"
)

func (s state) String() string {
	var parts []string
	for r, b := range s.rows {
		if b.status == absent {
			continue
		}
		text := fmt.Sprintf("bid %d %s", r+1, []string{"", "ACTIVE", "WITHDRAWN", "REJECTED"}[b.status])
		if b.kind != nothing {
			text += " owes " + []string{"", "place", "withdraw"}[b.kind] + " " + []string{"", "pending", "leased", "review"}[b.phase]
		}
		text += fmt.Sprintf(" posts=%d", b.posts)
		for _, flag := range []struct {
			on   bool
			name string
		}{{b.expired, "expired"}, {b.settled, "settled"}, {b.asked, "withdrawal-requested"}} {
			if flag.on {
				text += " " + flag.name
			}
		}
		if b.id > 0 {
			text += fmt.Sprintf(" id=#%d", b.id)
		}
		if b.flying > 0 {
			text += fmt.Sprintf(" POSTs-under-way=%d", b.flying)
		}
		parts = append(parts, text)
	}
	names := []string{"nothing", "live", "withdrawn", "rejected"}
	for j, b := range s.bids {
		if b.state != unseen {
			parts = append(parts, fmt.Sprintf("#%d %s, shown as %s", j+1, names[b.state], names[b.shown]))
		}
	}
	for _, w := range s.workers {
		if w.step == idle {
			continue
		}
		owner := "old token"
		if w.mine {
			owner = "its lease"
		}
		parts = append(parts, fmt.Sprintf("pod(%s, step %d)", owner, w.step))
	}
	return strings.Join(parts, " | ")
}
