-- settle: an order was paid; its units go from held to sold, and the visitor's session ends.
--
-- Keys  1 stock 2 holds 3 units 4 bought 5 ops 6 inside 7 buying 8 room 9 entered (HASHes) 10 ended (ZSET)
-- Args  1 order id  2 the visitor's pass ends with this purchase, and none lasts longer than so many ms from now;
--       0 = it lasts until its own end  3 the visitor's number, for an order that has no unit here; 0 = not known
-- Reply 'done' | 'already' | 'unknown' (not in this filling) | 'absent' (no stock here) | 'loading' (come again)
-- Operation id: the order id, by the state of its unit (u, a unconfirmed, h held, s sold).
-- A pass that ends: its number stands in `ended`, by the room's clock, until the pass would be over anyway, whether or not
-- there still is a lease; every gate reads that with its next board. The lease is gone, so nobody can renew it. An order that
-- was paid before a filling has no unit in it, but its visitor leaves all the same.
-- Races: after a second run the unit is sold already. While the stock is being filled the caller must come
-- again, because the filling may have been read before the payment was.

local order, pass_ms, its_number = ARGV[1], ARGV[2], ARGV[3]
if #ARGV ~= 3 or #order ~= 36 then return redis.error_reply('BADARG order') end
if #pass_ms > 9 or not pass_ms:match('^%d+$') then return redis.error_reply('BADARG pass_ms') end
if #its_number > 15 or not its_number:match('^%d+$') then return redis.error_reply('BADARG number') end

local function leave(number)
  redis.call('ZREM', KEYS[6], number)
  redis.call('ZREM', KEYS[7], number)
  redis.call('HDEL', KEYS[9], number)
  if pass_ms == '0' then return end
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + (tonumber(redis.call('HGET', KEYS[8], 'skew_ms') or 0) or 0)
  redis.call('ZADD', KEYS[10], string.format('%.0f', now + tonumber(pass_ms)), number)
end

local s = redis.call('HMGET', KEYS[1], 'available', 'held', 'loading')
if s[3] then return 'loading' end
local unit = s[1] and redis.call('HGET', KEYS[3], order)
if not unit then
  if its_number ~= '0' then leave(its_number) end
  return s[1] and 'unknown' or 'absent'
end
local head, quantity, number, state, tail = string.match(unit, '^([^|]*|(%d+)|(%d+)|)(%a)(|.*)$')
if not state then return redis.error_reply('BADSTATE unit') end
if state == 's' then return 'already' end
if (tonumber(s[2] or '0') or 0) < tonumber(quantity) then return redis.error_reply('BADSTATE held') end

redis.call('HINCRBY', KEYS[1], 'held', '-' .. quantity)
redis.call('HINCRBY', KEYS[1], 'sold', quantity)
if state == 'u' or state == 'a' then redis.call('HINCRBY', KEYS[1], 'unconfirmed', '-1') end
redis.call('HSET', KEYS[3], order, head .. 's' .. tail)
redis.call('ZREM', KEYS[2], order)
if redis.call('HINCRBY', KEYS[5], 'n:' .. number, '-1') <= 0 then redis.call('HDEL', KEYS[5], 'n:' .. number) end
leave(number)
return 'done'
