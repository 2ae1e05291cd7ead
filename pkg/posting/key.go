package posting

import (
	"cmp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// A Key identifies a posting. Keys that [ParseKey] made are in normal form, so
// two of them are equal exactly when they mean the same posting.
type Key struct {
	Marketplace string
	JobID       string
}

// The longest parts of a key, in bytes.
const (
	MaxMarketplace = 64
	MaxJobID       = 512
)

// ParseKey returns the normal form of a key. The marketplace is trimmed,
// NFC-normalised and lower-cased, and its other names are replaced; the job id
// is trimmed of surrounding white space and otherwise kept byte for byte. An
// error is a [*Reject] with [CodeInvalidMarketplace] or [CodeInvalidJobID].
func ParseKey(marketplace, jobID string) (Key, error) {
	name := strings.ToLower(norm.NFC.String(strings.TrimSpace(marketplace)))
	if name == "peoplehour" {
		name = "peopleperhour"
	}
	if !isMarketplace(name) {
		return Key{}, rejectf(CodeInvalidMarketplace,
			"marketplace %s is not a name: use 1 to %d of a-z, 0-9, '.', '_' and '-', starting with a letter or digit",
			quote(marketplace), MaxMarketplace)
	}

	id := strings.TrimSpace(jobID)
	switch {
	case id == "":
		return Key{}, rejectf(CodeInvalidJobID, "the job_id is empty: give the marketplace's own id of the posting")
	case len(id) > MaxJobID:
		return Key{}, rejectf(CodeInvalidJobID, "job_id %s is %d bytes long: at most %d are allowed",
			quote(id), len(id), MaxJobID)
	case !utf8.ValidString(id):
		return Key{}, rejectf(CodeInvalidJobID, "job_id %s is not valid UTF-8", quote(id))
	case strings.ContainsFunc(id, unicode.IsControl):
		return Key{}, rejectf(CodeInvalidJobID, "job_id %s holds a control character: remove it", quote(id))
	case id == "None" || id == "null" || id == "undefined" || id == "<nil>":
		// All postings without an id would be one posting.
		return Key{}, rejectf(CodeInvalidJobID,
			"job_id %s is how programs print a missing value: give the marketplace's own id of the posting", quote(id))
	}
	return Key{Marketplace: name, JobID: id}, nil
}

// isMarketplace reports whether name matches [a-z0-9][a-z0-9._-]{0,63}.
func isMarketplace(name string) bool {
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return 0 < len(name) && len(name) <= MaxMarketplace
}

// Compare orders keys by marketplace, then by job id, both by their bytes, as
// the database does.
func (k Key) Compare(other Key) int {
	return cmp.Or(
		strings.Compare(k.Marketplace, other.Marketplace),
		strings.Compare(k.JobID, other.JobID),
	)
}

// String returns the marketplace and the job id, separated by a space.
func (k Key) String() string { return k.Marketplace + " " + k.JobID }

// LockKey returns the text under which the posting is locked.
func (k Key) LockKey() string { return "bid:lock:" + k.Marketplace + ":" + k.JobID }
