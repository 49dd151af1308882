-- A pass serves one person: the first account that held units with it keeps it for ever, also when that order ends without
-- money. A pass is named by its place in the line (the lease number) and its visitor, because a store that lost everything
-- could give a number again. Written under the lock of the deal's row. Of passes from before the visitor is
-- not known; each account's is taken for one of its own.
CREATE TABLE pass_holder (
    deal_id      uuid   NOT NULL REFERENCES deal,
    lease_number bigint NOT NULL,
    visitor      text   NOT NULL CHECK (length(visitor) BETWEEN 1 AND 36),
    account_id   uuid   NOT NULL REFERENCES account,
    PRIMARY KEY (deal_id, lease_number, visitor)
);
INSERT INTO pass_holder (deal_id, lease_number, visitor, account_id)
SELECT DISTINCT deal_id, lease_number, account_id::text, account_id FROM orders;

-- The final gate of V2, which now knows whose a pass is, and is faster in the plain case. What it promises stands in V1.
--
-- Each statement that writes an order reads and prepares the checks of the table anew, which costs more than the row
-- itself; a crowd of winners is therefore written by one statement per table. Whatever is not plain goes through the
-- rules of the loop, one by one.

CREATE TYPE hold_entry AS (
    ord bigint, id uuid, account uuid, lease bigint, visitor text, quantity bigint, amount bigint, currency text, key text,
    fingerprint bytea, expires bigint, confirm_by bigint, epoch bigint, trace text
);

-- Places the entries of a deal whose row is locked, all of them or none; false: none. Plain is a batch in which every entry
-- is sure to be placed whatever becomes of the others: people and passes that differ, in time, of this epoch, at the price,
-- within limit and stock together, and none with an earlier order, another one's pass or an allowance that is used up.
CREATE FUNCTION place_plain_holds(batch hold_entry[], d deal, now_ms bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    sums  record;
    grown bigint;
BEGIN
    SELECT count(*) AS entries, sum(e.quantity) AS units, count(DISTINCT e.account) AS people,
           count(DISTINCT (e.lease, e.visitor)) AS passes,
           bool_and(coalesce(e.epoch = d.epoch AND now_ms <= e.confirm_by AND now_ms < e.expires
               AND e.quantity BETWEEN 1 AND d.per_user_limit
               AND e.amount = d.price_minor * e.quantity AND e.currency = d.currency
               AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.account_id = e.account AND o.idempotency_key = e.key)
               AND NOT EXISTS (SELECT 1 FROM pass_holder h WHERE h.deal_id = d.id AND h.lease_number = e.lease
                               AND h.visitor = e.visitor AND h.account_id <> e.account)
               AND NOT EXISTS (SELECT 1 FROM allowance a WHERE a.deal_id = d.id AND a.account_id = e.account
                               AND a.units + e.quantity > a.unit_limit), false)) AS are_plain
    INTO sums FROM unnest(batch) e;
    IF sums.are_plain IS NOT TRUE OR sums.people <> sums.entries OR sums.passes <> sums.entries
       OR now_ms < d.starts_at_ms OR now_ms >= d.ends_at_ms OR sums.units > d.stock - d.held - d.sold THEN
        RETURN false;
    END IF;
    -- The guard is in the statement, as for one: the deal's lock keeps allowances as they were read.
    INSERT INTO allowance AS a (deal_id, account_id, units, unit_limit)
    SELECT d.id, e.account, e.quantity, d.per_user_limit FROM unnest(batch) e
    ON CONFLICT (deal_id, account_id) DO UPDATE SET units = a.units + excluded.units
    WHERE a.units + excluded.units <= a.unit_limit;
    GET DIAGNOSTICS grown = ROW_COUNT;
    IF grown <> sums.entries THEN
        RAISE EXCEPTION 'an allowance moved under the lock of its deal' USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO pass_holder (deal_id, lease_number, visitor, account_id)
    SELECT d.id, e.lease, e.visitor, e.account FROM unnest(batch) e
    ON CONFLICT DO NOTHING;
    INSERT INTO orders (id, deal_id, account_id, lease_number, quantity, held_units, amount_minor, currency, state, step_actor,
                        idempotency_key, fingerprint, hold_expires_at_ms, created_at_ms, updated_at_ms, trace_id)
    SELECT e.id, d.id, e.account, e.lease, e.quantity, e.quantity, e.amount, e.currency, 'held', 'shopper',
           e.key, e.fingerprint, e.expires, now_ms, now_ms, e.trace FROM unnest(batch) e ORDER BY e.ord;
    UPDATE deal SET held = held + sums.units WHERE id = d.id;
    RETURN true;
END $$;

CREATE OR REPLACE FUNCTION place_holds(entries jsonb, now_ms bigint)
RETURNS TABLE (n bigint, outcome text, existing uuid) LANGUAGE plpgsql AS $$
DECLARE
    d          deal;
    batch      hold_entry[];
    e          hold_entry;
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
        batch := ARRAY(
            SELECT ROW(ord, x->>'order', x->>'account', x->>'lease', x->>'visitor', x->>'quantity', x->>'amount', x->>'currency',
                       x->>'key', decode(x->>'fingerprint', 'hex'), x->>'expires', x->>'confirm_by', x->>'epoch', x->>'trace')::hold_entry
            FROM jsonb_array_elements(entries) WITH ORDINALITY AS t(x, ord)
            WHERE (x->>'deal')::uuid = d.id ORDER BY ord);
        IF place_plain_holds(batch, d, now_ms) THEN
            RETURN QUERY SELECT p.ord, 'placed', NULL::uuid FROM unnest(batch) p;
            CONTINUE;
        END IF;
        free_units := d.stock - d.held - d.sold;
        taken := 0;
        FOREACH e IN ARRAY batch LOOP
            n := e.ord; existing := NULL;
            SELECT o.id, o.fingerprint INTO prior FROM orders o
            WHERE o.account_id = e.account AND o.idempotency_key = e.key;
            IF FOUND THEN
                IF prior.fingerprint = e.fingerprint THEN outcome := 'existing'; existing := prior.id;
                ELSE outcome := 'key_reused'; END IF;
            ELSIF e.epoch <> d.epoch THEN outcome := 'wrong_epoch';
            ELSIF now_ms > e.confirm_by OR now_ms >= e.expires THEN outcome := 'expired';
            ELSIF now_ms < d.starts_at_ms OR now_ms >= d.ends_at_ms THEN outcome := 'not_open';
            ELSIF EXISTS (SELECT 1 FROM pass_holder h WHERE h.deal_id = d.id AND h.lease_number = e.lease
                          AND h.visitor = e.visitor AND h.account_id <> e.account) THEN outcome := 'stranger';
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
                    INSERT INTO pass_holder (deal_id, lease_number, visitor, account_id)
                    VALUES (d.id, e.lease, e.visitor, e.account)
                    ON CONFLICT DO NOTHING;
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
