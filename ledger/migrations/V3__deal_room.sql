-- What a merchant wants of the waiting room in front of a deal: lobby, mode, looks, rules. The fields are checked by
-- the deal service (`deal_room.rs`) and by the room itself; here only what would break others: the shape, the size,
-- and the hours.
ALTER TABLE deal
    ADD COLUMN room jsonb NOT NULL DEFAULT '{}',
    ADD CONSTRAINT deal_room_is_an_object CHECK (jsonb_typeof(room) = 'object' AND octet_length(room::text) <= 65536),
    ADD CONSTRAINT deal_room_mode CHECK (coalesce(room ->> 'mode', 'fifo') IN ('fifo', 'draw')),
    ADD CONSTRAINT deal_room_lobby CHECK (coalesce((room ->> 'lobby_opens_at_ms')::bigint, starts_at_ms) <= starts_at_ms),
    ADD CONSTRAINT deal_room_end CHECK (jsonb_typeof(coalesce(room -> 'end_on_purchase', 'false'::jsonb)) = 'boolean');
