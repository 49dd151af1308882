-- What a purchase reads does not grow with the purchases before it (tests/past.rs), whenever its plans were made.

-- One live payment per order, and one capture per order, whatever the code does. A rule and no way to rows: as a list of states
-- it looked like one, and whoever asked for a state could be led through every payment that was ever captured.
DROP INDEX payment_one_live;
CREATE UNIQUE INDEX payment_one_live ON payment (order_id)
    WHERE CASE WHEN state IN ('failed', 'cancelled', 'expired') THEN 'ended' ELSE 'live' END = 'live';

-- Payments that are not settled, each part by an index of its own (payment_due, payment_parked).
CREATE VIEW live_payment AS
    SELECT id, order_id, state, updated_at_ms, expires_at_ms FROM payment
    WHERE state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown', 'waiting') AND parked_reason IS NULL
    UNION ALL
    SELECT id, order_id, state, updated_at_ms, expires_at_ms FROM payment
    WHERE state IN ('requested', 'ready', 'authorized', 'confirming', 'unknown', 'waiting') AND parked_reason IS NOT NULL;

-- An order's refunds and what Redis heard of it, for its story; refunds that were set aside, for the operator.
CREATE INDEX refund_by_order ON refund (order_id);
CREATE INDEX refund_parked ON refund (parked_at_ms) WHERE parked_reason IS NOT NULL;
CREATE INDEX outbox_by_order ON outbox (order_id);

-- For notices and the comparison with a provider's books: what they name, and what moved since an instant. The provider is in
-- none of them: an index that has it fits every question about one, and leads to all its payments.
DROP INDEX payment_by_reference;
CREATE INDEX payment_by_reference ON payment (provider_ref);
CREATE INDEX payment_by_change ON payment (updated_at_ms, id);
CREATE INDEX payment_by_approval ON payment (approval_code) WHERE approval_code IS NOT NULL;
