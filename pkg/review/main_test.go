package review_test

import (
	"testing"

	"github.com/arbitrageai/bidder/test/testdb"
)

func TestMain(m *testing.M) { testdb.Main(m) }
