-- Dropping the tables drops their triggers, indexes and constraints.
DROP TABLE bid_events;
DROP TABLE bids;
DROP FUNCTION bid_events_append_only();
DROP FUNCTION bids_refuse_late_commit();
DROP FUNCTION bids_guard_truncate();
DROP FUNCTION bids_guard_delete();
DROP FUNCTION bids_stamp_withdrawal();
DROP FUNCTION bids_guard_update();
