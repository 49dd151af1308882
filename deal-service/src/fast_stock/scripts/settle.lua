-- settle: an order was paid; its units go from held to sold, and the visitor's session ends.
--
-- Keys  1 stock 2 holds 3 units 4 bought 5 ops 6 inside 7 buying
-- Args  1 order id
-- Reply 'done' | 'already' | 'unknown' (not in this filling) | 'absent' (no stock here) | 'loading' (come again)
-- Operation id: the order id, by the state of its unit (u unconfirmed, h held, s sold).
-- Races: after a second run the unit is sold already. While the stock is being filled the caller must come
-- again, because the filling may have been read before the payment was.

local order = ARGV[1]
if #ARGV ~= 1 or #order ~= 36 then return redis.error_reply('BADARG order') end
local s = redis.call('HMGET', KEYS[1], 'available', 'held', 'loading')
if s[3] then return 'loading' end
if not s[1] then return 'absent' end
local unit = redis.call('HGET', KEYS[3], order)
if not unit then return 'unknown' end
local head, quantity, number, state, tail = string.match(unit, '^([^|]*|(%d+)|(%d+)|)(%a)(|.*)$')
if not state then return redis.error_reply('BADSTATE unit') end
if state == 's' then return 'already' end
if (tonumber(s[2] or '0') or 0) < tonumber(quantity) then return redis.error_reply('BADSTATE held') end

redis.call('HINCRBY', KEYS[1], 'held', '-' .. quantity)
redis.call('HINCRBY', KEYS[1], 'sold', quantity)
if state == 'u' then redis.call('HINCRBY', KEYS[1], 'unconfirmed', '-1') end
redis.call('HSET', KEYS[3], order, head .. 's' .. tail)
redis.call('ZREM', KEYS[2], order)
if redis.call('HINCRBY', KEYS[5], 'n:' .. number, '-1') <= 0 then redis.call('HDEL', KEYS[5], 'n:' .. number) end
redis.call('ZREM', KEYS[6], number)
redis.call('ZREM', KEYS[7], number)
return 'done'
