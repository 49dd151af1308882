-- release: an order ended without money, or was refunded; its units can be bought again.
--
-- Keys  1 stock 2 holds 3 units 4 bought 5 ops 6 inside 7 buying
-- Args  1 order id  2 'any'; or 'refused' = only while it is unconfirmed and was offered to the ledger once: of two offers the
--       other may succeed; or 'overdue' = only while it is unconfirmed and its time is over
-- Reply 'done' | 'unknown' (released before, or not in this filling) | 'confirmed' (argument 2 forbade it)
--       | 'absent' (no stock here) | 'loading' (come again)
-- Operation id: the order id; the unit is deleted, so a second run finds nothing.
-- A visitor who holds nothing else goes back from `buying` to `inside`, but for 30 s at most: time for another
-- try. For longer, leavers would count as people who may still take the last units, and nobody would be called.
-- The account keeps its field in `bought` (even at 0): it marks that the ledger may know keys of it.
-- Nor does a pass stay with an account whose hold the ledger never took: the ledger knows better (see hold).
-- Races: both guard against an offer or a confirm between the ledger's answer and this one; what 'refused' leaves, the
-- sweeper finds overdue.

local order, only = ARGV[1], ARGV[2]
if #ARGV ~= 2 or #order ~= 36 then return redis.error_reply('BADARG order') end
if only ~= 'any' and only ~= 'refused' and only ~= 'overdue' then return redis.error_reply('BADARG only') end
local s = redis.call('HMGET', KEYS[1], 'available', 'held', 'loading', 'sold')
if s[3] then return 'loading' end
if not s[1] then return 'absent' end
local unit = redis.call('HGET', KEYS[3], order)
if not unit then return 'unknown' end
local account, quantity, number, state, key, visitor = string.match(unit, '^([^|]*)|(%d+)|(%d+)|(%a)|([^|]*)|?(.*)$')
if not state then return redis.error_reply('BADSTATE unit') end
local is_unconfirmed = state == 'u' or state == 'a'
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
if only == 'refused' and state ~= 'u' then return 'confirmed' end
if only == 'overdue' and not (is_unconfirmed and tonumber(redis.call('ZSCORE', KEYS[2], order) or 0) <= now) then
  return 'confirmed'
end
local from = state == 's' and 'sold' or 'held'
if (tonumber((state == 's' and s[4] or s[2]) or '0') or 0) < tonumber(quantity) then
  return redis.error_reply('BADSTATE ' .. from)
end
local has = tonumber(redis.call('HGET', KEYS[4], account) or '0') or 0

redis.call('HINCRBY', KEYS[1], from, '-' .. quantity)
redis.call('HINCRBY', KEYS[1], 'available', quantity)
if is_unconfirmed then redis.call('HINCRBY', KEYS[1], 'unconfirmed', '-1') end
redis.call('HDEL', KEYS[3], order)
redis.call('ZREM', KEYS[2], order)
redis.call('HSET', KEYS[4], account, string.format('%.0f', math.max(0, has - tonumber(quantity))))
if key ~= '' then redis.call('HDEL', KEYS[5], account .. ':' .. key) end
if is_unconfirmed then redis.call('HDEL', KEYS[5], 'p:' .. number .. ':' .. visitor) end
if state ~= 's' and redis.call('HINCRBY', KEYS[5], 'n:' .. number, '-1') <= 0 then
  redis.call('HDEL', KEYS[5], 'n:' .. number)
  local lease = redis.call('ZSCORE', KEYS[7], number)
  if lease then
    redis.call('ZREM', KEYS[7], number)
    local stays = math.min(tonumber(lease), now + 30000)
    if stays > now then redis.call('ZADD', KEYS[6], string.format('%.0f', stays), number) end
  end
end
return 'done'
