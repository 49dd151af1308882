-- The truth of Floodgate: who bought what, what is promised, what is paid.
--
-- Times are milliseconds since the Unix epoch (bigint, suffix _ms): one clock, no zones.
-- Money is minor units (bigint) with an ISO 4217 code. Every gate that Rust and Lua have is here again.

CREATE TABLE account (
    id            uuid   PRIMARY KEY,
    email         text   NOT NULL UNIQUE CHECK (email = lower(email) AND length(email) <= 254),
    name          text   NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    password_hash text   NOT NULL,
    created_at_ms bigint NOT NULL
);

CREATE TABLE merchant (
    id            uuid   PRIMARY KEY,
    name          text   NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    created_at_ms bigint NOT NULL
);

CREATE TABLE api_key (
    hash          bytea  PRIMARY KEY CHECK (length(hash) = 32),
    merchant_id   uuid   NOT NULL REFERENCES merchant,
    prefix        text   NOT NULL,
    created_at_ms bigint NOT NULL,
    revoked_at_ms bigint
);

CREATE TABLE deal (
    id                   uuid   PRIMARY KEY,
    merchant_id          uuid   NOT NULL REFERENCES merchant,
    title                text   NOT NULL CHECK (length(title) BETWEEN 1 AND 120),
    description          text   NOT NULL CHECK (length(description) <= 4000),
    price_minor          bigint NOT NULL CHECK (price_minor BETWEEN 0 AND 1000000000000),
    currency             text   NOT NULL CHECK (currency IN ('KRW', 'USD', 'EUR', 'JPY')),
    stock                bigint NOT NULL CHECK (stock BETWEEN 1 AND 1000000),
    held                 bigint NOT NULL DEFAULT 0 CHECK (held >= 0),
    sold                 bigint NOT NULL DEFAULT 0 CHECK (sold >= 0),
    per_user_limit       bigint NOT NULL CHECK (per_user_limit BETWEEN 1 AND 100),
    starts_at_ms         bigint NOT NULL,
    ends_at_ms           bigint NOT NULL CHECK (ends_at_ms > starts_at_ms),
    admission_rate_per_s bigint NOT NULL CHECK (admission_rate_per_s BETWEEN 1 AND 100000),
    admission_cap        bigint NOT NULL CHECK (admission_cap BETWEEN 1 AND 1000000),
    hold_ttl_ms          bigint NOT NULL CHECK (hold_ttl_ms BETWEEN 1000 AND 3600000),
    -- Fencing: raised each time the fast stock is filled anew; a hold taken under an older epoch is refused.
    epoch                bigint NOT NULL DEFAULT 0,
    created_at_ms        bigint NOT NULL,
    -- The promise: never more held and sold than there is.
    CONSTRAINT deal_never_oversold CHECK (held + sold <= stock)
);
CREATE INDEX deal_by_end ON deal (ends_at_ms);

-- Units that a shopper holds or bought, per deal: the per-person limit as a constraint.
CREATE TABLE allowance (
    deal_id    uuid   NOT NULL REFERENCES deal,
    account_id uuid   NOT NULL REFERENCES account,
    units      bigint NOT NULL CHECK (units >= 0),
    unit_limit bigint NOT NULL,
    PRIMARY KEY (deal_id, account_id),
    CONSTRAINT allowance_within_limit CHECK (units <= unit_limit)
);

-- A hold is an order in its first state.
CREATE TABLE orders (
    id                 uuid   PRIMARY KEY,
    deal_id            uuid   NOT NULL REFERENCES deal,
    account_id         uuid   NOT NULL REFERENCES account,
    lease_number       bigint NOT NULL,
    quantity           bigint NOT NULL CHECK (quantity BETWEEN 1 AND 1000),
    amount_minor       bigint NOT NULL CHECK (amount_minor BETWEEN 0 AND 1000000000000),
    currency           text   NOT NULL,
    state              text   NOT NULL CHECK (state IN ('held', 'paying', 'paid', 'released', 'refunding', 'refunded')),
    reason             text,
    idempotency_key    text   NOT NULL,
    fingerprint        bytea  NOT NULL CHECK (length(fingerprint) = 32),
    hold_expires_at_ms bigint NOT NULL,
    created_at_ms      bigint NOT NULL,
    updated_at_ms      bigint NOT NULL,
    trace_id           text   NOT NULL,
    UNIQUE (account_id, idempotency_key)
);
CREATE INDEX orders_by_account ON orders (account_id, id);
CREATE INDEX orders_by_deal ON orders (deal_id, state);
CREATE INDEX orders_expiring ON orders (hold_expires_at_ms) WHERE state = 'held';

-- Append-only: every state an order ever had, and why.
CREATE TABLE order_event (
    order_id   uuid   NOT NULL REFERENCES orders,
    seq        bigint GENERATED ALWAYS AS IDENTITY,
    from_state text,
    to_state   text   NOT NULL,
    reason     text,
    at_ms      bigint NOT NULL,
    PRIMARY KEY (order_id, seq)
);

CREATE TABLE payment (
    id              uuid   PRIMARY KEY,
    order_id        uuid   NOT NULL REFERENCES orders,
    provider        text   NOT NULL,
    state           text   NOT NULL CHECK (state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown',
                                                     'captured', 'failed', 'cancelled', 'expired')),
    amount_minor    bigint NOT NULL CHECK (amount_minor BETWEEN 0 AND 1000000000000),
    currency        text   NOT NULL,
    item_name       text   NOT NULL,
    quantity        bigint NOT NULL,
    account_id      uuid   NOT NULL,
    return_secret   text   NOT NULL,
    provider_ref    text,
    approval_code   text,
    provider_aid    text,
    redirect_pc     text,
    redirect_mobile text,
    redirect_app    text,
    failure_code    text,
    failure_message text,
    -- What the shopper said at the provider's page; the provider is asked before it is believed.
    returned        text   CHECK (returned IN ('approved', 'cancelled', 'failed')),
    expires_at_ms   bigint,
    next_at_ms      bigint NOT NULL,
    lease_until_ms  bigint NOT NULL DEFAULT 0,
    tries           bigint NOT NULL DEFAULT 0,
    created_at_ms   bigint NOT NULL,
    updated_at_ms   bigint NOT NULL,
    trace_id        text   NOT NULL
);
CREATE INDEX payment_by_order ON payment (order_id);
-- One live payment per order, and one capture per order, whatever the code does.
CREATE UNIQUE INDEX payment_one_live ON payment (order_id)
    WHERE state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown', 'captured');
CREATE INDEX payment_due ON payment (next_at_ms)
    WHERE state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown');

CREATE TABLE refund (
    id             uuid   PRIMARY KEY,
    order_id       uuid   NOT NULL REFERENCES orders,
    payment_id     uuid   NOT NULL REFERENCES payment,
    amount_minor   bigint NOT NULL CHECK (amount_minor BETWEEN 0 AND 1000000000000),
    currency       text   NOT NULL,
    reason         text   NOT NULL,
    state          text   NOT NULL CHECK (state IN ('requested', 'sending', 'unknown', 'done', 'failed')),
    provider_ref   text,
    failure_code   text,
    failure_message text,
    next_at_ms     bigint NOT NULL,
    lease_until_ms bigint NOT NULL DEFAULT 0,
    tries          bigint NOT NULL DEFAULT 0,
    created_at_ms  bigint NOT NULL,
    updated_at_ms  bigint NOT NULL,
    trace_id       text   NOT NULL
);
-- Whole refunds only: an order is refunded at most once.
CREATE UNIQUE INDEX refund_one_per_order ON refund (order_id) WHERE state <> 'failed';
CREATE INDEX refund_due ON refund (next_at_ms) WHERE state IN ('requested', 'sending', 'unknown');

-- Written before each call to a provider, finished after it: a row without an end is an unknown outcome.
CREATE TABLE attempt (
    id             uuid   PRIMARY KEY,
    payment_id     uuid   NOT NULL REFERENCES payment,
    refund_id      uuid   REFERENCES refund,
    kind           text   NOT NULL CHECK (kind IN ('prepare', 'confirm', 'query', 'refund')),
    started_at_ms  bigint NOT NULL,
    finished_at_ms bigint,
    outcome        text,
    detail         text
);
CREATE INDEX attempt_by_payment ON attempt (payment_id);

-- What Redis and the pages must hear; written with the change itself, delivered at least once.
CREATE TABLE outbox (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind            text   NOT NULL CHECK (kind IN ('order_paid', 'order_released', 'order_refunded')),
    order_id        uuid   NOT NULL REFERENCES orders,
    deal_id         uuid   NOT NULL,
    account_id      uuid   NOT NULL,
    lease_number    bigint NOT NULL,
    quantity        bigint NOT NULL,
    created_at_ms   bigint NOT NULL,
    lease_until_ms  bigint NOT NULL DEFAULT 0,
    delivered_at_ms bigint
);
CREATE INDEX outbox_pending ON outbox (id) WHERE delivered_at_ms IS NULL;

-- The first answer to a request with an Idempotency-Key, in the same transaction as its effect.
CREATE TABLE idempotency (
    actor         text    NOT NULL,
    key           text    NOT NULL,
    fingerprint   bytea   NOT NULL CHECK (length(fingerprint) = 32),
    status        integer NOT NULL,
    body          bytea   NOT NULL,
    created_at_ms bigint  NOT NULL,
    PRIMARY KEY (actor, key)
);

-- The edges of an order's life. Whatever the code tries, no other step is possible.
CREATE FUNCTION order_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'held' THEN
            RAISE EXCEPTION 'an order begins as held, not %', NEW.state USING ERRCODE = 'check_violation';
        END IF;
        INSERT INTO order_event (order_id, from_state, to_state, reason, at_ms)
        VALUES (NEW.id, NULL, NEW.state, NEW.reason, NEW.created_at_ms);
        RETURN NEW;
    END IF;
    IF (NEW.deal_id, NEW.account_id, NEW.quantity, NEW.amount_minor, NEW.currency)
       IS DISTINCT FROM (OLD.deal_id, OLD.account_id, OLD.quantity, OLD.amount_minor, OLD.currency) THEN
        RAISE EXCEPTION 'what was ordered never changes' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.state <> OLD.state THEN
        IF NOT ((OLD.state = 'held' AND NEW.state IN ('paying', 'released'))
             OR (OLD.state = 'paying' AND NEW.state IN ('paid', 'released'))
             OR (OLD.state = 'paid' AND NEW.state = 'refunding')
             OR (OLD.state = 'refunding' AND NEW.state IN ('refunded', 'paid'))) THEN
            RAISE EXCEPTION 'an order cannot go from % to %', OLD.state, NEW.state USING ERRCODE = 'check_violation';
        END IF;
        INSERT INTO order_event (order_id, from_state, to_state, reason, at_ms)
        VALUES (NEW.id, OLD.state, NEW.state, NEW.reason, NEW.updated_at_ms);
        PERFORM pg_notify('floodgate_order', NEW.id::text);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER order_step BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION order_step();
CREATE TRIGGER order_begin AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_step();

-- Terminal states of a payment stay; the worker and the pages hear of every step.
CREATE FUNCTION payment_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF OLD.state IN ('captured', 'failed', 'cancelled', 'expired') AND NEW.state <> OLD.state THEN
            RAISE EXCEPTION 'a payment that ended as % stays so', OLD.state USING ERRCODE = 'check_violation';
        END IF;
        IF (NEW.order_id, NEW.amount_minor, NEW.currency) IS DISTINCT FROM (OLD.order_id, OLD.amount_minor, OLD.currency) THEN
            RAISE EXCEPTION 'what a payment is for never changes' USING ERRCODE = 'check_violation';
        END IF;
    END IF;
    IF TG_OP = 'INSERT' OR NEW.state <> OLD.state OR NEW.returned IS DISTINCT FROM OLD.returned THEN
        PERFORM pg_notify('floodgate_payment', '');
        PERFORM pg_notify('floodgate_order', NEW.order_id::text);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER payment_step AFTER INSERT OR UPDATE ON payment FOR EACH ROW EXECUTE FUNCTION payment_step();

CREATE FUNCTION wake_payment_worker() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('floodgate_payment', '');
    RETURN NULL;
END $$;
CREATE TRIGGER refund_wakes AFTER INSERT ON refund FOR EACH STATEMENT EXECUTE FUNCTION wake_payment_worker();

CREATE FUNCTION wake_outbox() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('floodgate_outbox', '');
    RETURN NULL;
END $$;
CREATE TRIGGER outbox_wakes AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION wake_outbox();

-- The final gate. One call commits many winners of the fast gate.
--
-- Input: a JSON array of {order, deal, account, lease, quantity, amount, currency, key, fingerprint (hex),
-- expires, confirm_by, epoch, trace}. Output: one row per entry, in the same order, with its outcome.
-- Rows of deals are locked in the order of their ids, so two batches cannot deadlock; inside one deal
-- the entries are taken in the order given. The row of the deal is written once, however many win.
-- An entry that came before (same account and key) is answered with the order that exists.
CREATE FUNCTION place_holds(entries jsonb, now_ms bigint)
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
                    INSERT INTO orders (id, deal_id, account_id, lease_number, quantity, amount_minor, currency, state,
                                        idempotency_key, fingerprint, hold_expires_at_ms, created_at_ms, updated_at_ms, trace_id)
                    VALUES (e.id, d.id, e.account, e.lease, e.quantity, e.amount, e.currency, 'held',
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

-- Ends a hold or a payment without money: the units go back, once.
CREATE FUNCTION release_order(the_order uuid, from_states text[], why text, now_ms bigint)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    o record;
BEGIN
    -- The deal first, then the order: the same order of locks as place_holds.
    PERFORM 1 FROM deal WHERE id = (SELECT deal_id FROM orders WHERE id = the_order) FOR UPDATE;
    UPDATE orders SET state = 'released', reason = why, updated_at_ms = now_ms
    WHERE id = the_order AND state = ANY (from_states) RETURNING * INTO o;
    IF NOT FOUND THEN RETURN false; END IF;
    UPDATE deal SET held = held - o.quantity WHERE id = o.deal_id;
    UPDATE allowance SET units = units - o.quantity WHERE deal_id = o.deal_id AND account_id = o.account_id;
    INSERT INTO outbox (kind, order_id, deal_id, account_id, lease_number, quantity, created_at_ms)
    VALUES ('order_released', o.id, o.deal_id, o.account_id, o.lease_number, o.quantity, now_ms);
    RETURN true;
END $$;
