package metrics

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/common/expfmt"
)

// scrapeTime bounds one answer; Prometheus itself waits 10 s where nothing else is set.
const scrapeTime = 10 * time.Second

// Handler answers GET with the metrics. Where they cannot be read it answers 503, and only
// the log says why. It asks nobody who they are: that is up to whoever mounts it.
func (e *Exporter) Handler(log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET", http.StatusMethodNotAllowed)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), scrapeTime)
		defer cancel()
		var text bytes.Buffer // whole, or not at all
		if err := e.Write(ctx, &text); err != nil {
			log.Warn("the metrics cannot be read", "error", err)
			http.Error(w, "the metrics cannot be read", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
		_, _ = w.Write(text.Bytes()) // the other side may be gone
	})
}
