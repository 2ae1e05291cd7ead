package db

import (
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
)

// uuidCodec has a uuid.UUID travel as its 16 bytes. To pgx it is a value with a text of its own, which it makes
// and reads again for each.
type uuidCodec struct{ pgtype.UUIDCodec }

// PlanEncode implements [pgtype.Codec].
func (c uuidCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	switch value.(type) {
	case uuid.UUID, *uuid.UUID:
		if format == pgtype.BinaryFormatCode {
			return uuidBytes{}
		}
	}
	return c.UUIDCodec.PlanEncode(m, oid, format, value)
}

// PlanScan implements [pgtype.Codec].
func (c uuidCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*uuid.UUID); ok {
		if format == pgtype.BinaryFormatCode {
			return uuidBytes{}
		}
		return uuidText{}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, target)
}

// uuidBytes encodes and scans what is not null.
type uuidBytes struct{}

// Encode implements [pgtype.EncodePlan].
func (uuidBytes) Encode(value any, buf []byte) ([]byte, error) {
	switch id := value.(type) {
	case uuid.UUID:
		return append(buf, id[:]...), nil
	case *uuid.UUID:
		return append(buf, id[:]...), nil
	}
	return nil, fmt.Errorf("%T is no uuid", value)
}

// Scan implements [pgtype.ScanPlan].
func (uuidBytes) Scan(src []byte, target any) error {
	id, ok := target.(*uuid.UUID)
	if !ok || len(src) != len(id) {
		return fmt.Errorf("%d bytes are no uuid for %T", len(src), target)
	}
	copy(id[:], src)
	return nil
}

// uuidText scans what is not null; left to the type itself, as pgx would, null would be what was there before.
type uuidText struct{}

// Scan implements [pgtype.ScanPlan].
func (uuidText) Scan(src []byte, target any) (err error) {
	id, ok := target.(*uuid.UUID)
	if !ok || src == nil {
		return fmt.Errorf("null is no uuid for %T", target)
	}
	*id, err = uuid.ParseBytes(src)
	return err //nolint:wrapcheck // names the value
}

// wrapUUIDs saves pgx looking at a slice of them by reflection. It is a [pgtype.TryWrapEncodePlanFunc].
func wrapUUIDs(value any) (pgtype.WrappedEncodePlanNextSetter, any, bool) {
	if ids, ok := value.([]uuid.UUID); ok {
		return &uuids{}, pgtype.FlatArray[uuid.UUID](ids), true
	}
	return nil, nil, false
}

type uuids struct{ next pgtype.EncodePlan }

// SetNext implements [pgtype.WrappedEncodePlanNextSetter].
func (p *uuids) SetNext(next pgtype.EncodePlan) { p.next = next }

// Encode implements [pgtype.EncodePlan].
func (p *uuids) Encode(value any, buf []byte) ([]byte, error) {
	ids, ok := value.([]uuid.UUID)
	if !ok {
		return nil, fmt.Errorf("%T are no uuids", value)
	}
	return p.next.Encode(pgtype.FlatArray[uuid.UUID](ids), buf) //nolint:wrapcheck // pgx's own
}
