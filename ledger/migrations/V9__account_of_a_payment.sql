-- Whose account at the provider opened the session: the shop's or the merchant's own. Chosen anew from the configuration of the
-- day, a payment was looked for in an account that does not know it as soon as a merchant got an account of its own, or lost it.
-- Null before a session is open, and for payments from before this: they are looked for as before.
ALTER TABLE payment ADD COLUMN account_of text CHECK (account_of IN ('shop', 'merchant'));

-- The steps of V5, and this.
CREATE OR REPLACE FUNCTION payment_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.state <> OLD.state AND NOT (OLD.state || '>' || NEW.state) = ANY (ARRAY[
            'requested>ready', 'requested>captured', 'requested>failed', 'requested>cancelled', 'requested>expired',
            'ready>authorized', 'ready>captured', 'ready>failed', 'ready>cancelled', 'ready>expired',
            'authorized>confirming', 'authorized>unknown', 'authorized>captured', 'authorized>failed', 'authorized>cancelled', 'authorized>expired',
            'confirming>authorized', 'confirming>unknown', 'confirming>waiting', 'confirming>captured', 'confirming>failed',
            'confirming>cancelled', 'confirming>expired',
            'unknown>authorized', 'unknown>waiting', 'unknown>captured', 'unknown>failed', 'unknown>cancelled', 'unknown>expired',
            'waiting>captured', 'waiting>unknown', 'waiting>failed', 'waiting>cancelled', 'waiting>expired',
            'failed>captured', 'cancelled>captured', 'expired>captured']) THEN
            RAISE EXCEPTION 'a payment cannot go from % to %', OLD.state, NEW.state USING ERRCODE = 'check_violation';
        END IF;
        IF (NEW.order_id, NEW.amount_minor, NEW.currency, NEW.provider, NEW.merchant_id)
           IS DISTINCT FROM (OLD.order_id, OLD.amount_minor, OLD.currency, OLD.provider, OLD.merchant_id) THEN
            RAISE EXCEPTION 'what a payment is for never changes' USING ERRCODE = 'check_violation';
        END IF;
        IF OLD.account_of IS NOT NULL AND NEW.account_of IS DISTINCT FROM OLD.account_of THEN
            RAISE EXCEPTION 'whose account has a payment never changes' USING ERRCODE = 'check_violation';
        END IF;
        IF OLD.captured_minor > 0 AND NEW.captured_minor <> OLD.captured_minor THEN
            RAISE EXCEPTION 'what was captured never changes' USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    IF tells_by_itself() AND (TG_OP = 'INSERT' OR NEW.state <> OLD.state OR NEW.returned IS DISTINCT FROM OLD.returned
       OR NEW.recheck_at_ms IS DISTINCT FROM OLD.recheck_at_ms) THEN
        PERFORM pg_notify('floodgate_payment', '');
        PERFORM pg_notify('floodgate_order', NEW.order_id::text);
    END IF;
    RETURN NEW;
END $$;
