-- Pods go on while the rows that are there are looked through.

ALTER TABLE postings VALIDATE CONSTRAINT postings_marketplace_spelling;

ALTER TABLE bids VALIDATE CONSTRAINT bids_marketplace_spelling;
