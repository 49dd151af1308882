-- move_units: units of an order move after its hold has ended: free to sold (money came late), or sold to free
-- (money went back).
--
-- Keys  1 stock 2 holds 3 units 4 bought 5 ops 6 inside 7 buying
-- Args  1 event id  2 epoch of the deal when the ledger decided  3 order id  4 account id  5 units
--       6 'paid_late' | 'returned'
-- Reply 'done' | 'already' (this event, or a filling that was read after it) | 'absent' (no stock here)
--       | 'loading' (come again: being filled, or this stock is older than the event: its epoch says so, or it has not sold
--         what comes back: the payment of this very order is still to be told here)
-- Operation id: the event id, kept in `ops` as long as the stock lives.
-- Races: events of one order may come in either order. Money that went back before its payment was told waits for it,
-- or the payment would find no unit and the hold would count for ever.
-- A filling raises the epoch under the deal's lock in the ledger, so an event of an older epoch is part of it.
-- `available` may fall below 0 for a moment when units that the ledger has sold late are held here and not yet
-- committed: those holds are refused by the ledger and come back.

local event, epoch, order, account, units, what = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if #ARGV ~= 6 or #order ~= 36 or #account ~= 36 then return redis.error_reply('BADARG id') end
for _, n in ipairs({event, epoch, units}) do
  if #n > 15 or not string.match(n, '^%d+$') then return redis.error_reply('BADARG number') end
end
if not string.match(units, '^[1-9]%d?%d?%d?$') then return redis.error_reply('BADARG units') end
if what ~= 'paid_late' and what ~= 'returned' then return redis.error_reply('BADARG what') end
local s = redis.call('HMGET', KEYS[1], 'available', 'sold', 'epoch', 'loading')
if s[4] then return 'loading' end
if not s[1] then return 'absent' end
local here, there = tonumber(s[3] or '0') or 0, tonumber(epoch)
if here > there then return 'already' end
if here < there then return 'loading' end
if redis.call('HEXISTS', KEYS[5], 'e:' .. event) == 1 then return 'already' end
local back = what == 'returned'
if back and (tonumber(s[2] or '0') or 0) < tonumber(units) then return 'loading' end
local unit = redis.call('HGET', KEYS[3], order)
local head, quantity, tail, state = string.match(unit or '', '^([^|]*|)(%d+)(|%d+|(%a)|.*)$')
if unit and not state then return redis.error_reply('BADSTATE unit') end
if back and unit and state ~= 's' then return 'loading' end
local has = tonumber(redis.call('HGET', KEYS[4], account) or '0') or 0

redis.call('HSET', KEYS[5], 'e:' .. event, '1')
redis.call('HINCRBY', KEYS[1], 'sold', (back and '-' or '') .. units)
redis.call('HINCRBY', KEYS[1], 'available', (back and '' or '-') .. units)
has = back and math.max(0, has - tonumber(units)) or has + tonumber(units)
redis.call('HSET', KEYS[4], account, string.format('%.0f', has))
if back and unit then
  local rest = tonumber(quantity) - tonumber(units)
  if rest > 0 then redis.call('HSET', KEYS[3], order, head .. string.format('%.0f', rest) .. tail)
  else redis.call('HDEL', KEYS[3], order) end
end
return 'done'
