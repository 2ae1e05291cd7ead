package main

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// trustRoots has Mozilla's certificate authorities trusted where the system has none, as in the image.
// It is for whoever is about to call somebody by TLS: a run that finds nothing to do calls nobody, and
// reading them took a tenth of its time (docs/performance.md).
var trustRoots = sync.OnceFunc(func() { //nolint:gochecknoglobals // once a process
	roots := x509.NewCertPool()
	for root := range bundle.Roots() {
		certificate, err := x509.ParseCertificate(root.Certificate)
		switch {
		case err != nil:
			panic(err) // they are part of the program
		case root.Constraint == nil:
			roots.AddCert(certificate)
		default:
			roots.AddCertWithConstraint(certificate, root.Constraint)
		}
	}
	x509.SetFallbackRoots(roots)
})

// asksRoots says whether the system's authorities decide on the server that connections go to.
func asksRoots(c *pgx.ConnConfig) bool {
	return asksSystem(c.TLSConfig) || slices.ContainsFunc(c.Fallbacks, func(other *pgconn.FallbackConfig) bool { return asksSystem(other.TLSConfig) })
}

func asksSystem(c *tls.Config) bool {
	// verify-ca is a check of its own in place of Go's, by pgx.
	return c != nil && c.RootCAs == nil && (!c.InsecureSkipVerify || c.VerifyPeerCertificate != nil)
}
