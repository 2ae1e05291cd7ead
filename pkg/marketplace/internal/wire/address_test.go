package wire

import (
	"errors"
	"net/netip"
	"testing"
)

func TestIsPublic(t *testing.T) {
	t.Parallel()
	tests := []struct {
		addr string
		want bool
	}{
		{"8.8.8.8", true},
		{"2606:4700::1111", true},
		{"::ffff:8.8.8.8", true},
		{"64:ff9b::808:808", true}, // 8.8.8.8 by NAT64
		{"127.0.0.1", false},
		{"127.8.9.1", false},
		{"::1", false},
		{"::ffff:127.0.0.1", false},
		{"::127.0.0.1", false},
		{"64:ff9b::7f00:1", false}, // 127.0.0.1 by NAT64
		{"64:ff9b::a9fe:a9fe", false},
		{"10.1.2.3", false},
		{"172.16.0.1", false},
		{"172.32.0.1", true},
		{"192.168.1.1", false},
		{"::ffff:192.168.1.1", false},
		{"169.254.169.254", false}, // metadata of most clouds
		{"::ffff:169.254.169.254", false},
		{"fd00:ec2::254", false},   // metadata of AWS
		{"100.100.100.200", false}, // metadata of Alibaba Cloud
		{"168.63.129.16", false},   // metadata of Azure
		{"::ffff:168.63.129.16", false},
		{"fec0::1%eth0", false},
		{"192.0.0.192", false}, // metadata of Oracle Cloud
		{"fe80::1", false},
		{"fe80::1%eth0", false},
		{"fec0::1", false},
		{"100.64.0.1", false},
		{"0.0.0.0", false},
		{"0.1.2.3", false},
		{"::", false},
		{"224.0.0.1", false},
		{"ff02::1", false},
		{"255.255.255.255", false},
		{"250.1.1.1", false},
		{"198.18.0.1", false},
		{"2002:7f00:1::", false}, // 127.0.0.1 by 6to4
		{"2001:0:7f00:1::", false},
		{"64:ff9b:1::7f00:1", false},
	}
	for _, tt := range tests {
		if got := isPublic(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("isPublic(%s) = %v, want %v", tt.addr, got, tt.want)
		}
	}
}

func TestCheckAddress(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name           string
		address        string
		private, plain bool
		refused        bool
	}{
		{name: "public", address: "8.8.8.8:443"},
		{name: "loopback", address: "127.0.0.1:443", refused: true},
		{name: "mapped loopback", address: "[::ffff:127.0.0.1]:443", refused: true},
		{name: "private, allowed", address: "10.0.0.1:443", private: true},
		{name: "http to loopback", address: "[::1]:80", private: true, plain: true},
		{name: "http to a private network", address: "10.0.0.1:80", private: true, plain: true, refused: true},
		{name: "http to the internet", address: "8.8.8.8:80", plain: true, refused: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := checkAddress(tt.address, tt.private, tt.plain)
			if _, refused := errors.AsType[*AddressError](err); refused != tt.refused {
				t.Errorf("checkAddress = %v, want refused: %v", err, tt.refused)
			}
		})
	}
	if err := checkAddress("connector:443", true, false); err == nil {
		t.Error("a name that was not resolved passed")
	}
}
