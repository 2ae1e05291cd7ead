package token_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/oauth2"

	"github.com/arbitrageai/bidder/db/queries"
	"github.com/arbitrageai/bidder/pkg/config"
	"github.com/arbitrageai/bidder/pkg/marketplace"
	"github.com/arbitrageai/bidder/pkg/token"
	"github.com/arbitrageai/bidder/test/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }

var (
	oldKey = config.NewSecret(strings.Repeat("o", 32))
	newKey = config.NewSecret(strings.Repeat("n", 32))
	owner  = token.Owner{Marketplace: "freelancer", Account: "default", Issuer: "https://accounts.example.test"}
)

// issuer renews by a script; without one, nothing may ask it.
type issuer struct {
	mu    sync.Mutex
	asked []string // refresh tokens
	renew func(ctx context.Context) (*oauth2.Token, error)
}

func (i *issuer) Renew(ctx context.Context, refresh string) (*oauth2.Token, error) {
	i.mu.Lock()
	i.asked = append(i.asked, refresh)
	renew := i.renew
	i.mu.Unlock()
	return renew(ctx)
}

func (i *issuer) answers(t *oauth2.Token, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.renew = func(context.Context) (*oauth2.Token, error) { return t, err }
}

type world struct {
	*issuer

	t    *testing.T
	pool *pgxpool.Pool
}

func setup(t *testing.T) *world {
	t.Helper()
	return &world{issuer: &issuer{}, t: t, pool: testdb.New(t).Pool(t)}
}

// keeper is another pod.
func (w *world) keeper(keys ...config.Secret) *token.Keeper {
	w.t.Helper()
	if len(keys) == 0 {
		keys = []config.Secret{newKey, oldKey}
	}
	k, err := token.New(w.pool, keys, owner, w.Renew)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(k.Close)
	return k
}

func (w *world) exec(sql string) {
	w.t.Helper()
	if _, err := w.pool.Exec(w.t.Context(), sql); err != nil {
		w.t.Fatal(err)
	}
}

// signIn stores a first pair of tokens that end after so many seconds.
func (w *world) signIn(seconds int) *token.Keeper {
	w.t.Helper()
	k := w.keeper()
	if err := k.Save(w.t.Context(), &oauth2.Token{AccessToken: "access-1", RefreshToken: "refresh-1", ExpiresIn: 3600}); err != nil {
		w.t.Fatal(err)
	}
	w.exec(fmt.Sprintf("UPDATE tokens SET expires_at = clock_timestamp() + %d * interval '1 s'", seconds))
	return k
}

// nextMinute lets the right to renew run out.
func (w *world) nextMinute() {
	w.t.Helper()
	w.exec("UPDATE tokens SET renewing_until = clock_timestamp() - interval '1 ms'")
}

func (w *world) want(k *token.Keeper, access string, refreshes ...string) {
	w.t.Helper()
	got, err := k.Token(w.t.Context())
	if err != nil || got.Reveal() != access {
		w.t.Errorf("token %q, %v; want %q", got.Reveal(), err, access)
	}
	w.wantAsked(refreshes...)
}

func (w *world) wantAsked(refreshes ...string) {
	w.t.Helper()
	if !slices.Equal(w.asked, refreshes) {
		w.t.Errorf("renewed with %v, want %v", w.asked, refreshes)
	}
}

// wantAuth checks that a person is asked to sign in.
func (w *world) wantAuth(err error, says ...string) {
	w.t.Helper()
	if !errors.Is(err, marketplace.ErrAuthNeeded) {
		w.t.Fatalf("error %v, want that a person has to sign in", err)
	}
	for _, text := range append(says, "bidder freelancer login") {
		if !strings.Contains(err.Error(), text) {
			w.t.Errorf("error %q does not say %q", err, text)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	w := setup(t)
	k := w.keeper()
	_, err := k.Token(t.Context())
	w.wantAuth(err, "nobody has signed in")
	w.signIn(301)
	w.want(k, "access-1")
	if err := k.Refused(t.Context(), config.NewSecret("another")); err != nil {
		t.Errorf("another token was refused: %v", err)
	}
	had, err := k.Forget(t.Context())
	again, err2 := k.Forget(t.Context())
	if !had || again || err != nil || err2 != nil {
		t.Errorf("forgot %v, then %v; %v, %v", had, again, err, err2)
	}
	_, err = k.Token(t.Context())
	w.wantAuth(err)
}

// It is renewed 300 s before its end; the refresh token stays where the answer has none.
func TestRenewal(t *testing.T) {
	t.Parallel()
	w := setup(t)
	k := w.signIn(299)
	w.answers(&oauth2.Token{AccessToken: "access-2", ExpiresIn: 3600}, nil)
	w.want(k, "access-2", "refresh-1")
	w.want(w.keeper(), "access-2", "refresh-1")
	w.exec("UPDATE tokens SET expires_at = clock_timestamp() - interval '1 s'")
	w.answers(&oauth2.Token{AccessToken: "access-3", RefreshToken: "refresh-3", ExpiresIn: 1 << 40}, nil)
	w.want(k, "access-3", "refresh-1", "refresh-1")
	state, err := k.State(t.Context())
	if err != nil || state.RenewedAt == nil || state.UnansweredAt != nil || state.RefusedAt != nil || state.IsOver || state.ExpiresAt.After(time.Now().AddDate(1, 0, 2)) {
		t.Errorf("state %+v, %v", state, err)
	}
	w.exec("UPDATE tokens SET expires_at = clock_timestamp()")
	w.answers(&oauth2.Token{AccessToken: "access-4"}, nil)
	w.want(k, "access-4", "refresh-1", "refresh-1", "refresh-3")
	if state, err = k.State(t.Context()); err != nil || state.ExpiresAt.After(time.Now().Add(2*time.Hour)) {
		t.Errorf("a token of unknown life counts until %s, %v", state.ExpiresAt, err)
	}
}

// Of ten pods that need a new token one asks for it; the others go on with what they have.
func TestOnePodRenews(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.signIn(200)
	begun, finish := make(chan struct{}), make(chan struct{})
	var held atomic.Int64
	w.renew = func(ctx context.Context) (*oauth2.Token, error) {
		close(begun) // twice would panic
		<-finish
		// Nothing is held while the issuer is asked.
		err := w.pool.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()`).Scan(new(int64))
		var locks int64
		err = errors.Join(err, w.pool.QueryRow(ctx, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").Scan(&locks))
		held.Store(locks)
		return &oauth2.Token{AccessToken: "access-2", ExpiresIn: 3600}, err
	}
	first := make(chan string, 1)
	go func() {
		got, err := w.keeper().Token(t.Context())
		first <- fmt.Sprint(got.Reveal(), err)
	}()
	<-begun
	for range 9 {
		w.want(w.keeper(), "access-1", "refresh-1")
	}
	w.exec("UPDATE tokens SET expires_at = clock_timestamp()")
	if _, err := w.keeper().Token(t.Context()); !errors.Is(err, token.ErrBusy) {
		t.Errorf("with a dead token, while another pod renews it: %v, want ErrBusy", err)
	}
	if err := w.keeper().Refused(t.Context(), config.NewSecret("access-1")); !errors.Is(err, token.ErrBusy) {
		t.Errorf("refused, while another pod renews it: %v, want ErrBusy", err)
	}
	close(finish)
	if got := <-first; got != "access-2<nil>" || held.Load() != 0 {
		t.Errorf("the first pod got %s, holding %d locks", got, held.Load())
	}
	w.want(w.keeper(), "access-2", "refresh-1")
}

func TestRefused(t *testing.T) {
	t.Parallel()
	w := setup(t)
	k := w.signIn(3000)
	w.answers(&oauth2.Token{AccessToken: "access-2", RefreshToken: "refresh-2", ExpiresIn: 3600}, nil)
	if err := k.Refused(t.Context(), config.NewSecret("access-1")); err != nil {
		t.Errorf("refused: %v, want it renewed", err)
	}
	w.want(k, "access-2", "refresh-1")
	if err := w.keeper().Refused(t.Context(), config.NewSecret("access-1")); err != nil {
		t.Errorf("another pod, with the old one: %v, want nothing to do", err)
	}
	w.wantAuth(k.Refused(t.Context(), config.NewSecret("access-2")), "a new token is not accepted either")
	w.wantAsked("refresh-1")
}

// A refresh token that is worth nothing: the access token is used to its end, nobody asks
// again, and then a person has to sign in.
func TestInvalidGrant(t *testing.T) {
	t.Parallel()
	w := setup(t)
	k := w.signIn(200)
	w.answers(nil, fmt.Errorf("%w: invalid_grant", marketplace.ErrAuthNeeded))
	w.want(k, "access-1", "refresh-1")
	w.nextMinute()
	w.want(k, "access-1", "refresh-1")
	w.exec("UPDATE tokens SET expires_at = clock_timestamp()")
	_, err := k.Token(t.Context())
	w.wantAuth(err, "refresh token is not accepted;")
	w.wantAuth(k.Refused(t.Context(), config.NewSecret("access-1")))
	w.wantAsked("refresh-1")
	w.signIn(3000)
	w.want(k, "access-1", "refresh-1")
	if state, err := k.State(t.Context()); err != nil || state.RefusedAt != nil || state.UnansweredAt != nil {
		t.Errorf("after signing in again: %+v, %v", state, err)
	}
}

// A renewal whose answer got lost is shown, and tried again with the same refresh token. If the
// issuer has used that up, it is said why a person has to sign in.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	k := w.signIn(200)
	w.answers(nil, fmt.Errorf("%w: reset", marketplace.ErrNoAnswer))
	w.want(k, "access-1", "refresh-1")
	if state, err := k.State(t.Context()); err != nil || state.UnansweredAt == nil {
		t.Errorf("state %+v, %v: want to see that a renewal has no answer", state, err)
	}
	w.want(k, "access-1", "refresh-1") // within the minute nobody asks again

	w.nextMinute()
	w.answers(nil, errors.New("not sent"))
	w.want(k, "access-1", "refresh-1", "refresh-1")
	if state, err := k.State(t.Context()); err != nil || state.UnansweredAt == nil {
		t.Errorf("state %+v, %v: what was not sent does not undo that one got lost", state, err)
	}

	w.nextMinute()
	w.exec("UPDATE tokens SET expires_at = clock_timestamp()")
	w.answers(nil, marketplace.ErrAuthNeeded)
	_, err := k.Token(t.Context())
	w.wantAuth(err, "an earlier renewal got no answer")
	w.wantAsked("refresh-1", "refresh-1", "refresh-1")
}

// An issuer that takes the same refresh token twice makes good what got lost.
func TestLostAnswerMadeGood(t *testing.T) {
	t.Parallel()
	w := setup(t)
	k := w.signIn(0)
	w.answers(nil, marketplace.ErrNoAnswer)
	if _, err := k.Token(t.Context()); !errors.Is(err, marketplace.ErrNoAnswer) || errors.Is(err, marketplace.ErrAuthNeeded) {
		t.Errorf("error %v, want that it is unknown", err)
	}
	w.nextMinute()
	w.answers(&oauth2.Token{AccessToken: "access-2", ExpiresIn: 3600}, nil)
	w.want(k, "access-2", "refresh-1", "refresh-1")
}

// TestRenewedOnDisk: what a crash must not take back is committed to the disk, also where the server's settings do not ask
// for it.
func TestRenewedOnDisk(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.signIn(3600)
	for before, after := range map[string]string{"off": "on", "local": "local"} {
		for name, change := range map[string]func(q *queries.Queries, of queries.GetTokenRow) (int64, error){
			"begin": func(q *queries.Queries, of queries.GetTokenRow) (int64, error) {
				return q.BeginRenewal(t.Context(), queries.BeginRenewalParams{Marketplace: of.Marketplace, Account: of.Account, Issuer: of.Issuer, Version: of.Version})
			},
			"store": func(q *queries.Queries, of queries.GetTokenRow) (int64, error) {
				return q.StoreRenewed(t.Context(), queries.StoreRenewedParams{Marketplace: of.Marketplace, Account: of.Account, Issuer: of.Issuer, Version: of.Version, KeyID: "k", Sealed: []byte("s")})
			},
		} {
			w.nextMinute()
			level, err := testdb.CommitLevel(t.Context(), w.pool, before, func(tx pgx.Tx) error {
				var of queries.GetTokenRow
				err := tx.QueryRow(t.Context(), "SELECT marketplace, account, issuer, version FROM tokens").Scan(&of.Marketplace, &of.Account, &of.Issuer, &of.Version)
				if err != nil {
					return err
				}
				n, err := change(queries.New(tx), of)
				if err == nil && n != 1 {
					err = fmt.Errorf("changes %d tokens", n)
				}
				return err
			})
			if err != nil || level != after {
				t.Errorf("%s, %s: at COMMIT it is %q, want %s: %v", before, name, level, after, err)
			}
		}
	}
}

// A pod that dies in the middle of a renewal leaves the same behind as a lost answer.
func TestKilledWhileRenewing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	k := w.signIn(0)
	w.exec("UPDATE tokens SET renewing_until = clock_timestamp() + interval '1 min', unanswered_at = clock_timestamp()")
	if _, err := k.Token(t.Context()); !errors.Is(err, token.ErrBusy) {
		t.Errorf("error %v, want ErrBusy", err)
	}
	w.nextMinute()
	w.answers(&oauth2.Token{AccessToken: "access-2", ExpiresIn: 3600}, nil)
	w.want(k, "access-2", "refresh-1")
}

// A definite failure that has nothing to do with the refresh token leaves no trace.
func TestNotSent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	k := w.signIn(200)
	w.answers(nil, errors.New("not sent"))
	w.want(k, "access-1", "refresh-1")
	if state, err := k.State(t.Context()); err != nil || state.UnansweredAt != nil || state.RefusedAt != nil {
		t.Errorf("state %+v, %v", state, err)
	}
}

// Whoever stops waiting does not stop the renewal: its answer would be lost.
func TestWaiterGone(t *testing.T) {
	t.Parallel()
	w := setup(t)
	k := w.signIn(0)
	begun, finish := make(chan struct{}), make(chan struct{})
	w.renew = func(ctx context.Context) (*oauth2.Token, error) {
		close(begun)
		<-finish
		return &oauth2.Token{AccessToken: "access-2", ExpiresIn: 3600}, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if _, err := k.Token(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	close(finish)
	k.Close()
	w.want(k, "access-2", "refresh-1")
}

// The answer of a renewal that somebody has overtaken is dropped: a person has signed in
// since, maybe with another account.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	w := setup(t)
	k := w.signIn(0)
	w.renew = func(ctx context.Context) (*oauth2.Token, error) {
		if _, err := k.Forget(ctx); err != nil {
			return nil, err
		}
		return &oauth2.Token{AccessToken: "stale", RefreshToken: "stale", ExpiresIn: 3600}, k.Save(ctx, &oauth2.Token{AccessToken: "access-9", RefreshToken: "refresh-9", ExpiresIn: 3600})
	}
	w.want(k, "access-9", "refresh-1")
}

// The row alone tells nothing, is good for one account only, and outlives a change of keys.
func TestSealed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if err := w.keeper(oldKey).Save(t.Context(), &oauth2.Token{AccessToken: "access-1", RefreshToken: "refresh-1", ExpiresIn: 100}); err != nil {
		t.Fatal(err)
	}
	row := func() (all string, sealed []byte, keyID string) {
		t.Helper()
		if err := w.pool.QueryRow(t.Context(), "SELECT t::text || encode(sealed, 'escape'), sealed, key_id FROM tokens AS t").Scan(&all, &sealed, &keyID); err != nil {
			t.Fatal(err)
		}
		return all, sealed, keyID
	}
	all, sealed, keyID := row()
	for _, secret := range []string{"access", "refresh", "oooo"} {
		if strings.Contains(all, secret) || strings.Contains(string(sealed), secret) {
			t.Errorf("the row tells %q: %s", secret, all)
		}
	}
	w.answers(&oauth2.Token{AccessToken: "access-2", ExpiresIn: 3600}, nil)
	w.want(w.keeper(newKey, oldKey), "access-2", "refresh-1")
	if _, again, id := row(); string(again) == string(sealed) || id == keyID {
		t.Error("after a renewal the tokens are not encrypted with the first key")
	}
	if _, err := w.keeper(oldKey).Token(t.Context()); err == nil || !strings.Contains(err.Error(), "token_key_env") || errors.Is(err, marketplace.ErrAuthNeeded) {
		t.Errorf("without the key: %v, want an error that names token_key_env", err)
	}
	before := func() []byte { _, s, _ := row(); return s }()
	if err := w.keeper(newKey).Save(t.Context(), &oauth2.Token{AccessToken: "access-2", RefreshToken: "refresh-1", ExpiresIn: 3600}); err != nil {
		t.Fatal(err)
	}
	if after := func() []byte { _, s, _ := row(); return s }(); string(after) == string(before) {
		t.Error("the same tokens are encrypted to the same bytes")
	}

	for _, change := range []string{
		"sealed = set_byte(sealed, 20, get_byte(sealed, 20) # 1)", "sealed = substring(sealed FOR 5)", "sealed = ''",
	} {
		w.exec("UPDATE tokens SET " + change)
		if got, err := w.keeper().Token(t.Context()); err == nil || got.IsSet() {
			t.Errorf("%s: %v, %v", change, got, err)
		}
		w.signIn(3000)
	}
	for _, column := range []string{"marketplace", "account", "issuer"} {
		w.signIn(3000)
		w.exec("UPDATE tokens SET " + column + " = 'elsewhere'")
		moved := owner
		switch column {
		case "marketplace":
			moved.Marketplace = "elsewhere"
		case "account":
			moved.Account = "elsewhere"
		default:
			moved.Issuer = "elsewhere"
		}
		k, err := token.New(w.pool, []config.Secret{newKey}, moved, w.Renew)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.Token(t.Context()); err == nil || got.IsSet() {
			t.Errorf("the row of another %s opens: %v", column, err)
		}
		w.exec("DELETE FROM tokens")
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, keys := range [][]config.Secret{nil, {config.NewSecret("short")}, {newKey, config.NewSecret(strings.Repeat("x", 33))}} {
		if _, err := token.New(nil, keys, owner, nil); err == nil || strings.Contains(err.Error(), "short") {
			t.Errorf("%d keys: %v", len(keys), err)
		}
	}
}
