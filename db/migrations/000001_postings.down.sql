DROP TABLE candidates;
DROP TABLE postings;
DROP FUNCTION bid_lock_key(text, text);
