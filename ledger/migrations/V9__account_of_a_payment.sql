-- Whose account at the provider opened the session: the shop's or the merchant's own. Chosen anew from the configuration of the
-- day, a payment was looked for in an account that does not know it as soon as a merchant got an account of its own, or lost it.
-- Null before a session is open, and for payments from before this: they are looked for as before.
ALTER TABLE payment ADD COLUMN account_of text CHECK (account_of IN ('shop', 'merchant'));

CREATE FUNCTION payment_account_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'whose account has a payment never changes' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER payment_account_stays BEFORE UPDATE OF account_of ON payment FOR EACH ROW
    WHEN (OLD.account_of IS NOT NULL AND NEW.account_of IS DISTINCT FROM OLD.account_of) EXECUTE FUNCTION payment_account_stays();
