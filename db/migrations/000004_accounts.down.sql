DROP FUNCTION account_is_paused(text, text);
DROP TABLE accounts;
