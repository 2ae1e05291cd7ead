ALTER TABLE candidates DROP COLUMN posting;
