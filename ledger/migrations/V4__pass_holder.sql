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

-- The final gate of V2, which now knows whose a pass is. What it promises stands in V1.
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
                   x->>'visitor' AS visitor, (x->>'quantity')::bigint AS quantity, (x->>'amount')::bigint AS amount, x->>'currency' AS currency,
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
