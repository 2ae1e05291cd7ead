package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/arbitrageai/bidder/test/netfault"
)

// All that the containers say to each other goes through one container that is in all networks:
// this program, started as `storm link NAME=ADDRESS=UPSTREAM...`. Each link there can be cut,
// delayed, turned into a black hole, and led elsewhere by itself. With the name tls it is no link, but takes TLS off.

// controlPort is where the container of the links is told what to do.
const controlPort = 9000

// serveLinks is that program.
func serveLinks(ctx context.Context, args []string) error {
	links := map[string]*netfault.Proxy{}
	for _, arg := range args {
		part := strings.Split(arg, "=")
		if len(part) != 3 {
			return fmt.Errorf("%q is not NAME=ADDRESS=UPSTREAM", arg)
		}
		if part[0] == "tls" {
			if err := terminate(ctx, part[1], part[2]); err != nil {
				return err
			}
			continue
		}
		link, err := netfault.Listen(ctx, part[1], part[2])
		if err != nil {
			return err
		}
		defer link.Close()
		links[part[0]] = link
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{link}/{verb}", func(w http.ResponseWriter, r *http.Request) {
		link, value := links[r.PathValue("link")], r.FormValue("value")
		if link == nil {
			http.Error(w, "no such link", http.StatusNotFound)
			return
		}
		switch r.PathValue("verb") {
		case "cut":
			link.Cut()
		case "blackhole":
			link.Blackhole(value == "true")
		case "latency":
			d, _ := time.ParseDuration(value)
			link.Latency(d)
		case "redirect":
			link.Redirect(value)
		}
	})
	server := &http.Server{Addr: fmt.Sprintf(":%d", controlPort), Handler: mux, ReadHeaderTimeout: time.Minute}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// links controls the container of the links.
type links struct{ address string }

// tell has something done to links. It is repeated: a link that stays broken would be a storm that never ends.
func (l links) tell(verb, value string, names ...string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, repeat(func() error { return l.post(name, verb, value) }))
	}
	return errors.Join(errs...)
}

func (l links) post(name, verb, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	target := "http://" + l.address + "/" + name + "/" + verb
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(url.Values{"value": {value}}.Encode()))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(answer.Body)
		return fmt.Errorf("%s: %s", target, text)
	}
	return nil
}

func (l links) cut(names ...string) error { return l.tell("cut", "", names...) }

func (l links) blackhole(on bool, names ...string) error {
	return l.tell("blackhole", fmt.Sprint(on), names...)
}

func (l links) latency(d time.Duration, names ...string) error {
	return l.tell("latency", d.String(), names...)
}

// repeat tries a few times.
func repeat(do func() error) (err error) {
	for try := range 5 {
		if err = do(); err == nil {
			return nil
		}
		time.Sleep(time.Duration(try+1) * 200 * time.Millisecond)
	}
	return err
}
