-- A commit that carries a NOTIFY holds a lock of the whole server from before its log goes to the disk until after it:
-- such commits come one after the other, a disk's time apart. The busiest writes therefore say `floodgate.quiet` for
-- their transaction and tell afterwards, in a transaction of its own that waits for no disk (`ledger/src/quiet.rs`).
-- Whatever does not say so, a person at the prompt included, tells by itself as before.
--
-- The functions are those of V2 and V1 with this one question; the edges are unchanged.

CREATE FUNCTION tells_by_itself() RETURNS boolean LANGUAGE sql STABLE AS
    $$ SELECT coalesce(current_setting('floodgate.quiet', true), '') <> 'on' $$;

CREATE OR REPLACE FUNCTION order_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'held' THEN
            RAISE EXCEPTION 'an order begins as held, not %', NEW.state USING ERRCODE = 'check_violation';
        END IF;
        INSERT INTO order_event (order_id, from_state, to_state, reason, at_ms, actor, detail)
        VALUES (NEW.id, NULL, NEW.state, NEW.reason, NEW.created_at_ms, NEW.step_actor, NEW.step_detail);
        RETURN NEW;
    END IF;
    IF (NEW.deal_id, NEW.account_id, NEW.quantity, NEW.amount_minor, NEW.currency)
       IS DISTINCT FROM (OLD.deal_id, OLD.account_id, OLD.quantity, OLD.amount_minor, OLD.currency) THEN
        RAISE EXCEPTION 'what was ordered never changes' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.state = OLD.state AND (NEW.held_units, NEW.sold_units) IS DISTINCT FROM (OLD.held_units, OLD.sold_units) THEN
        RAISE EXCEPTION 'units move with a step only' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.state <> OLD.state THEN
        IF NOT (OLD.state || '>' || NEW.state) = ANY (ARRAY[
            'held>paying', 'held>released',
            'paying>paid', 'paying>released', 'paying>quarantined',
            'released>paid', 'released>refunding', 'released>quarantined',
            'paid>refunding', 'paid>quarantined',
            'refunding>refunded', 'refunding>partly_refunded', 'refunding>paid', 'refunding>quarantined',
            'partly_refunded>refunding', 'partly_refunded>quarantined',
            'refunded>quarantined',
            'quarantined>paying', 'quarantined>paid', 'quarantined>released', 'quarantined>refunding',
            'quarantined>refunded']) THEN
            RAISE EXCEPTION 'an order cannot go from % to %', OLD.state, NEW.state USING ERRCODE = 'check_violation';
        END IF;
        INSERT INTO order_event (order_id, from_state, to_state, reason, at_ms, actor, detail)
        VALUES (NEW.id, OLD.state, NEW.state, NEW.reason, NEW.updated_at_ms, NEW.step_actor, NEW.step_detail);
        IF tells_by_itself() THEN PERFORM pg_notify('floodgate_order', NEW.id::text); END IF;
    END IF;
    RETURN NEW;
END $$;

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

CREATE OR REPLACE FUNCTION wake_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tells_by_itself() THEN PERFORM pg_notify('floodgate_outbox', ''); END IF;
    RETURN NULL;
END $$;
