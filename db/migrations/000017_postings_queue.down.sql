DROP TRIGGER postings_queue_refreshed ON postings;
DROP TRIGGER postings_queue_new ON postings;
DROP FUNCTION queue_posting();
