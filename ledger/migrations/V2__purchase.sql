-- The purchase as one state machine: `ledger/src/purchase.rs` decides, these tables refuse everything else.
--
-- Units of an order are either held or sold or neither; money is captured, on its way back, or back. Locks are
-- taken in one order everywhere: order, payment, deal, allowance.

-- ── Deals ──────────────────────────────────────────────────────────────────────────────────────────────────

-- How long after the payment a shopper may ask for the money back alone, in ms; 0 = only merchant and operator.
ALTER TABLE deal ADD COLUMN shopper_refund_ms bigint NOT NULL DEFAULT 604800000
    CHECK (shopper_refund_ms BETWEEN 0 AND 31622400000);

-- ── Orders ─────────────────────────────────────────────────────────────────────────────────────────────────

ALTER TABLE orders DROP CONSTRAINT orders_state_check;
ALTER TABLE orders
    ADD COLUMN held_units bigint NOT NULL DEFAULT 0,
    ADD COLUMN sold_units bigint NOT NULL DEFAULT 0,
    ADD COLUMN paid_at_ms bigint,
    -- Who made the last step and what it was about: they travel in the row, so no step is without them.
    ADD COLUMN step_actor text NOT NULL DEFAULT 'service',
    ADD COLUMN step_detail jsonb;
UPDATE orders SET held_units = CASE WHEN state IN ('held', 'paying') THEN quantity ELSE 0 END,
                  sold_units = CASE WHEN state IN ('paid', 'refunding') THEN quantity ELSE 0 END,
                  paid_at_ms = CASE WHEN state IN ('paid', 'refunding', 'refunded') THEN updated_at_ms END;
ALTER TABLE orders ALTER COLUMN held_units DROP DEFAULT;
ALTER TABLE orders
    ADD CONSTRAINT orders_state_check CHECK (state IN
        ('held', 'paying', 'paid', 'released', 'refunding', 'partly_refunded', 'refunded', 'quarantined')),
    ADD CONSTRAINT orders_actor_check CHECK (step_actor IN
        ('shopper', 'merchant', 'operator', 'service', 'worker', 'webhook', 'reaper', 'reconciliation')),
    -- Where the units are follows from the state; a quarantined order keeps them where they were.
    ADD CONSTRAINT orders_units_check CHECK (held_units IN (0, quantity) AND sold_units BETWEEN 0 AND quantity
        AND (held_units = 0 OR sold_units = 0)
        AND (state NOT IN ('held', 'paying') OR held_units = quantity)
        AND (state <> 'paid' OR sold_units = quantity)
        AND (state NOT IN ('released', 'refunded') OR held_units + sold_units = 0)
        AND (state NOT IN ('refunding', 'partly_refunded') OR held_units = 0));
CREATE INDEX orders_quarantined ON orders (updated_at_ms) WHERE state = 'quarantined';

ALTER TABLE order_event
    ADD COLUMN actor text NOT NULL DEFAULT 'service',
    ADD COLUMN detail jsonb,
    -- Set once the event is part of the audit chain.
    ADD COLUMN sealed boolean NOT NULL DEFAULT false;
CREATE INDEX order_event_unsealed ON order_event (seq) WHERE NOT sealed;

-- The edges of an order's life, the same list as `ORDER_EDGES` in purchase.rs (a test tries every pair on both).
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
        PERFORM pg_notify('floodgate_order', NEW.id::text);
    END IF;
    RETURN NEW;
END $$;

-- Nobody edits or deletes what happened; sealing is the one thing that an event may still live through.
CREATE FUNCTION order_event_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.order_id, NEW.seq, NEW.from_state, NEW.to_state, NEW.reason, NEW.at_ms, NEW.actor, NEW.detail)
       IS NOT DISTINCT FROM (OLD.order_id, OLD.seq, OLD.from_state, OLD.to_state, OLD.reason, OLD.at_ms, OLD.actor, OLD.detail)
       AND NEW.sealed THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'the history of an order is append-only' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER order_event_stays BEFORE UPDATE OR DELETE ON order_event FOR EACH ROW EXECUTE FUNCTION order_event_stays();

-- ── Payments ───────────────────────────────────────────────────────────────────────────────────────────────

ALTER TABLE payment DROP CONSTRAINT payment_state_check;
ALTER TABLE payment
    ADD COLUMN merchant_id uuid REFERENCES merchant,
    ADD COLUMN captured_minor bigint NOT NULL DEFAULT 0 CHECK (captured_minor BETWEEN 0 AND 1000000000000),
    -- On its way back, and back. The sum of both never passes what was captured, whatever the code does.
    ADD COLUMN refunding_minor bigint NOT NULL DEFAULT 0 CHECK (refunding_minor >= 0),
    ADD COLUMN refunded_minor bigint NOT NULL DEFAULT 0 CHECK (refunded_minor >= 0),
    -- When the first confirm call was written down: a provider's idempotency key lives from then on.
    ADD COLUMN confirm_sent_at_ms bigint,
    -- Set aside: no worker takes it before an operator has looked.
    ADD COLUMN parked_reason text,
    ADD COLUMN parked_at_ms bigint,
    -- An ended or captured payment that must be compared with the provider again (a webhook, the reconciliation).
    ADD COLUMN recheck_at_ms bigint,
    -- When it was last compared and agreed, for providers that have no list.
    ADD COLUMN compared_at_ms bigint NOT NULL DEFAULT 0;
UPDATE payment p SET merchant_id = d.merchant_id FROM orders o JOIN deal d ON d.id = o.deal_id WHERE o.id = p.order_id;
UPDATE payment SET captured_minor = amount_minor WHERE state = 'captured';
UPDATE payment p SET refunded_minor = r.amount_minor FROM refund r WHERE r.payment_id = p.id AND r.state = 'done';
UPDATE payment p SET refunding_minor = r.amount_minor FROM refund r
    WHERE r.payment_id = p.id AND r.state IN ('requested', 'sending', 'unknown');
ALTER TABLE payment ALTER COLUMN merchant_id SET NOT NULL;
ALTER TABLE payment
    ADD CONSTRAINT payment_state_check CHECK (state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown',
        'waiting', 'captured', 'failed', 'cancelled', 'expired')),
    ADD CONSTRAINT payment_never_refunds_more CHECK (refunding_minor + refunded_minor <= captured_minor),
    ADD CONSTRAINT payment_captured_has_money CHECK (state = 'captured' AND (captured_minor > 0 OR amount_minor = 0)
        OR state <> 'captured' AND captured_minor = 0);
DROP INDEX payment_one_live;
CREATE UNIQUE INDEX payment_one_live ON payment (order_id)
    WHERE state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown', 'waiting', 'captured');
DROP INDEX payment_due;
CREATE INDEX payment_due ON payment (provider, next_at_ms)
    WHERE state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown', 'waiting') AND parked_reason IS NULL;
CREATE INDEX payment_recheck ON payment (provider, recheck_at_ms) WHERE recheck_at_ms IS NOT NULL;
CREATE INDEX payment_by_reference ON payment (provider, provider_ref);
CREATE INDEX payment_parked ON payment (parked_at_ms) WHERE parked_reason IS NOT NULL;

-- The same list as `PAYMENT_EDGES` in purchase.rs.
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
    IF TG_OP = 'INSERT' OR NEW.state <> OLD.state OR NEW.returned IS DISTINCT FROM OLD.returned
       OR NEW.recheck_at_ms IS DISTINCT FROM OLD.recheck_at_ms THEN
        PERFORM pg_notify('floodgate_payment', '');
        PERFORM pg_notify('floodgate_order', NEW.order_id::text);
    END IF;
    RETURN NEW;
END $$;

-- ── Refunds: whole or in part, one at a time per order ─────────────────────────────────────────────────────

ALTER TABLE refund
    ADD COLUMN units bigint NOT NULL DEFAULT 0 CHECK (units >= 0),
    ADD COLUMN requested_by text NOT NULL DEFAULT 'shopper',
    ADD COLUMN sent_at_ms bigint,
    ADD COLUMN parked_reason text,
    ADD COLUMN parked_at_ms bigint;
UPDATE refund r SET units = o.quantity FROM orders o WHERE o.id = r.order_id;
DROP INDEX refund_one_per_order;
CREATE UNIQUE INDEX refund_one_open ON refund (order_id) WHERE state IN ('requested', 'sending', 'unknown');
DROP INDEX refund_due;
CREATE INDEX refund_due ON refund (next_at_ms) WHERE state IN ('requested', 'sending', 'unknown') AND parked_reason IS NULL;
CREATE INDEX refund_by_payment ON refund (payment_id);

-- A refund that is done or failed stays so; only a provider may take a done one back.
CREATE FUNCTION refund_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> OLD.state AND NOT (OLD.state || '>' || NEW.state) = ANY (ARRAY[
        'requested>sending', 'requested>unknown', 'requested>done', 'requested>failed',
        'sending>unknown', 'sending>done', 'sending>failed',
        'unknown>sending', 'unknown>done', 'unknown>failed', 'done>failed']) THEN
        RAISE EXCEPTION 'a refund cannot go from % to %', OLD.state, NEW.state USING ERRCODE = 'check_violation';
    END IF;
    IF (NEW.order_id, NEW.payment_id, NEW.amount_minor, NEW.currency, NEW.units)
       IS DISTINCT FROM (OLD.order_id, OLD.payment_id, OLD.amount_minor, OLD.currency, OLD.units) THEN
        RAISE EXCEPTION 'what a refund is for never changes' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refund_step BEFORE UPDATE ON refund FOR EACH ROW EXECUTE FUNCTION refund_step();

-- ── What Redis must hear ───────────────────────────────────────────────────────────────────────────────────

-- The epoch at the commit: a filling of the fast stock raises it under the deal's lock, so an event of an older
-- epoch is part of every later filling already.
ALTER TABLE outbox ADD COLUMN epoch bigint NOT NULL DEFAULT 0;
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check
    CHECK (kind IN ('order_paid', 'order_released', 'order_refunded', 'order_paid_late', 'order_returned'));

-- ── Webhooks, disagreements, audit ─────────────────────────────────────────────────────────────────────────

-- Which notices came, so that a repetition has no second effect.
CREATE TABLE webhook (
    provider       text   NOT NULL,
    event_id       text   NOT NULL CHECK (length(event_id) BETWEEN 1 AND 300),
    payment_id     uuid   REFERENCES payment,
    kind           text   NOT NULL CHECK (length(kind) <= 100),
    received_at_ms bigint NOT NULL,
    PRIMARY KEY (provider, event_id)
);
CREATE INDEX webhook_by_payment ON webhook (payment_id);
CREATE INDEX webhook_unknown ON webhook (received_at_ms) WHERE payment_id IS NULL;
-- When a payment was last called about: notices ask for no question sooner than a second after it.
DROP INDEX attempt_by_payment;
CREATE INDEX attempt_by_payment ON attempt (payment_id, started_at_ms);

-- Where our books and a provider's differ, until somebody has settled it.
CREATE TABLE discrepancy (
    id             uuid   PRIMARY KEY,
    provider       text   NOT NULL,
    class          text   NOT NULL CHECK (class IN ('ours_only', 'theirs_only', 'amount', 'state')),
    reference      text   NOT NULL,
    payment_id     uuid   REFERENCES payment,
    detail         text   NOT NULL CHECK (length(detail) <= 1000),
    state          text   NOT NULL CHECK (state IN ('open', 'repaired', 'dismissed')),
    found_at_ms    bigint NOT NULL,
    resolved_at_ms bigint,
    resolved_by    text
);
CREATE UNIQUE INDEX discrepancy_open ON discrepancy (provider, class, reference) WHERE state = 'open';

-- The hash chain over the history of all orders. Written by one sealer a moment after the events themselves, so
-- that no order waits for another one's place in the chain.
CREATE TABLE audit (
    seq      bigint PRIMARY KEY CHECK (seq > 0),
    order_id uuid   NOT NULL,
    event    bigint NOT NULL UNIQUE,
    line     text   NOT NULL
);

-- ── Steps ──────────────────────────────────────────────────────────────────────────────────────────────────

-- One step of an order, decided by purchase.rs under the order's lock: state, units, counts, outbox, in one go.
-- Answers false when the order is not in `from_state` (nothing is changed then).
CREATE FUNCTION purchase_step(the_order uuid, from_state text, to_state text, to_held bigint, to_sold bigint,
    why text, who text, what jsonb, outbox_kind text, outbox_units bigint, now_ms bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    o        record;
    held_by  bigint;
    sold_by  bigint;
    epoch_at bigint;
BEGIN
    SELECT deal_id, account_id, lease_number, held_units, sold_units INTO o FROM orders
    WHERE id = the_order AND state = from_state FOR UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    held_by := to_held - o.held_units;
    sold_by := to_sold - o.sold_units;
    UPDATE orders SET state = to_state, held_units = to_held, sold_units = to_sold, reason = coalesce(why, reason),
        step_actor = who, step_detail = what, updated_at_ms = now_ms,
        paid_at_ms = CASE WHEN to_state = 'paid' THEN coalesce(paid_at_ms, now_ms) ELSE paid_at_ms END
    WHERE id = the_order;
    IF held_by <> 0 OR sold_by <> 0 THEN
        UPDATE deal SET held = held + held_by, sold = sold + sold_by WHERE id = o.deal_id;
    END IF;
    IF held_by + sold_by <> 0 THEN
        UPDATE allowance SET units = units + held_by + sold_by WHERE deal_id = o.deal_id AND account_id = o.account_id;
    END IF;
    IF outbox_kind IS NOT NULL THEN
        SELECT epoch INTO epoch_at FROM deal WHERE id = o.deal_id;
        INSERT INTO outbox (kind, order_id, deal_id, account_id, lease_number, quantity, epoch, created_at_ms)
        VALUES (outbox_kind, the_order, o.deal_id, o.account_id, o.lease_number, outbox_units, epoch_at, now_ms);
    END IF;
    RETURN true;
END $$;

DROP FUNCTION release_order(uuid, text[], text, bigint);

-- The final gate of V1, which now says where the units are. What it promises stands there.
CREATE OR REPLACE FUNCTION place_holds(entries jsonb, now_ms bigint)
RETURNS TABLE (n bigint, outcome text, existing uuid) LANGUAGE plpgsql AS $$
DECLARE
    d          record;
    e          record;
    prior      record;
    free_units bigint;
    taken      bigint;
    grown      bigint;
BEGIN
    FOR d IN
        SELECT deal.* FROM deal
        WHERE deal.id IN (SELECT DISTINCT (x->>'deal')::uuid FROM jsonb_array_elements(entries) x)
        ORDER BY deal.id FOR UPDATE
    LOOP
        free_units := d.stock - d.held - d.sold;
        taken := 0;
        FOR e IN
            SELECT ord, (x->>'order')::uuid AS id, (x->>'account')::uuid AS account, (x->>'lease')::bigint AS lease,
                   (x->>'quantity')::bigint AS quantity, (x->>'amount')::bigint AS amount, x->>'currency' AS currency,
                   x->>'key' AS key, decode(x->>'fingerprint', 'hex') AS fingerprint, (x->>'expires')::bigint AS expires,
                   (x->>'confirm_by')::bigint AS confirm_by, (x->>'epoch')::bigint AS epoch, x->>'trace' AS trace
            FROM jsonb_array_elements(entries) WITH ORDINALITY AS t(x, ord)
            WHERE (x->>'deal')::uuid = d.id ORDER BY ord
        LOOP
            n := e.ord; existing := NULL;
            SELECT o.id, o.fingerprint INTO prior FROM orders o
            WHERE o.account_id = e.account AND o.idempotency_key = e.key;
            IF FOUND THEN
                IF prior.fingerprint = e.fingerprint THEN outcome := 'existing'; existing := prior.id;
                ELSE outcome := 'key_reused'; END IF;
            ELSIF e.epoch <> d.epoch THEN outcome := 'wrong_epoch';
            ELSIF now_ms > e.confirm_by OR now_ms >= e.expires THEN outcome := 'expired';
            ELSIF now_ms < d.starts_at_ms OR now_ms >= d.ends_at_ms THEN outcome := 'not_open';
            ELSIF e.quantity < 1 OR e.amount <> d.price_minor * e.quantity OR e.currency <> d.currency THEN outcome := 'wrong_amount';
            ELSIF e.quantity > free_units - taken THEN outcome := 'sold_out';
            ELSE
                -- The guard is in the statement: no row, no allowance left. A first purchase above the limit
                -- would pass the INSERT, so the quantity is compared as well.
                INSERT INTO allowance AS a (deal_id, account_id, units, unit_limit)
                SELECT d.id, e.account, e.quantity, d.per_user_limit WHERE e.quantity <= d.per_user_limit
                ON CONFLICT (deal_id, account_id) DO UPDATE SET units = a.units + excluded.units
                WHERE a.units + excluded.units <= a.unit_limit;
                GET DIAGNOSTICS grown = ROW_COUNT;
                IF grown = 0 THEN outcome := 'per_user_limit';
                ELSE
                    INSERT INTO orders (id, deal_id, account_id, lease_number, quantity, held_units, amount_minor, currency, state, step_actor,
                                        idempotency_key, fingerprint, hold_expires_at_ms, created_at_ms, updated_at_ms, trace_id)
                    VALUES (e.id, d.id, e.account, e.lease, e.quantity, e.quantity, e.amount, e.currency, 'held', 'shopper',
                            e.key, e.fingerprint, e.expires, now_ms, now_ms, e.trace);
                    taken := taken + e.quantity;
                    outcome := 'placed';
                END IF;
            END IF;
            RETURN NEXT;
        END LOOP;
        IF taken > 0 THEN
            UPDATE deal SET held = held + taken WHERE id = d.id;
        END IF;
    END LOOP;
END $$;
