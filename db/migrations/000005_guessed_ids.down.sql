ALTER TABLE bids DROP COLUMN is_guessed;
