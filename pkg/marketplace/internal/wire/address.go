package wire

import (
	"fmt"
	"net/netip"
	"slices"
)

// AddressError says that a host resolved to an address that may not be called.
type AddressError struct {
	Addr netip.Addr
	Why  string
}

func (e *AddressError) Error() string { return fmt.Sprintf("%s is refused: %s", e.Addr, e.Why) }

// reserved lists what is not on the internet and netip has no name for. Addresses of clouds'
// metadata services are in it or link-local.
func reserved() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("0.0.0.0/8"),
		netip.MustParsePrefix("100.64.0.0/10"),    // carrier-grade NAT
		netip.MustParsePrefix("168.63.129.16/32"), // Azure's metadata
		netip.MustParsePrefix("192.0.0.0/24"),
		netip.MustParsePrefix("192.0.2.0/24"), // documentation, also the next but one
		netip.MustParsePrefix("198.18.0.0/15"),
		netip.MustParsePrefix("198.51.100.0/24"),
		netip.MustParsePrefix("203.0.113.0/24"),
		netip.MustParsePrefix("240.0.0.0/4"),
		netip.MustParsePrefix("::/96"), // these embed IPv4 addresses
		netip.MustParsePrefix("64:ff9b:1::/48"),
		netip.MustParsePrefix("2001::/32"),
		netip.MustParsePrefix("2002::/16"),
		netip.MustParsePrefix("fec0::/10"),
	}
}

// isPublic reports whether an address is one of the internet.
func isPublic(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if nat64 := netip.MustParsePrefix("64:ff9b::/96"); nat64.Contains(addr) {
		bytes := addr.As16() // how networks without IPv4 reach IPv4 hosts
		addr = netip.AddrFrom4([4]byte(bytes[12:]))
	}
	return addr.IsGlobalUnicast() && !addr.IsPrivate() &&
		!slices.ContainsFunc(reserved(), func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
}

// checkAddress returns an [*AddressError] for an address, as host:port, that may not be
// called. It is asked about what a name resolved to, right before the connection is made, so
// that a name cannot change in between.
func checkAddress(address string, private, plain bool) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("parse address: %w", err)
	}
	addr := parsed.Addr()
	switch {
	case !private && !isPublic(addr):
		return &AddressError{addr, "it is not on the internet; write allow_private_networks: true if that is meant"}
	case plain && !addr.Unmap().IsLoopback():
		return &AddressError{addr, "http is for this machine only; use https"}
	}
	return nil
}
