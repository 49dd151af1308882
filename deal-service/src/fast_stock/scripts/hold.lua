-- hold: takes units for a shopper, or says why not. The fast gate: losers are answered here.
--
-- Keys  1 stock 2 holds 3 units 4 bought 5 ops 6 inside 7 buying (all of one room, one hash tag)
-- Args  1 order id  2 account id  3 idempotency key  4 quantity, canonical decimal 1..9999
--       5 lease number, decimal  6 how long the hold may stay unconfirmed, ms  7 visitor id of the pass
-- Reply {'held', order, epoch, now_ms}    units are taken; the commit must follow
--       {'again', order, epoch, now_ms}   the same operation came before; its order (offer it to the ledger again)
--       {'reused'}                        the key belongs to another quantity
--       {'not_loaded'}                    no stock here (flushed, or being filled)
--       {'not_open', known} {'stranger', known} {'limit', known} {'sold_out', known}
--         known = 1: this account held here before, so the ledger may remember the key
-- Operation id: account:key, kept in ops while the order has units; the ledger remembers for ever.
-- Order of checks: replay, window (by the server's clock), pass, limit, stock. All of them before the first write.
-- A pass serves one person: `ops` keeps the first account of a pass (p:number:visitor). After a filling the field is not
-- there; then the ledger, which never forgets it, refuses the stranger.
-- Races: a script is atomic. The same operation twice gives one hold. A crash after the reply leaves an unconfirmed hold
-- (u: offered to the ledger once, a: again), which the sweeper returns after its deadline. While the stock is being
-- filled `available` is missing, so nothing is taken from a half-filled room.

local order, account, key, quantity, number, confirm_ms, visitor = unpack(ARGV)
local function refuse(what) return redis.error_reply('BADARG ' .. what) end
if #ARGV ~= 7 then return refuse('count') end
if #order ~= 36 or not string.match(order, '^[%x-]+$') then return refuse('order') end
if #account ~= 36 or not string.match(account, '^[%x-]+$') then return refuse('account') end
if #key < 1 or #key > 64 or not string.match(key, '^[%w_:.-]+$') then return refuse('key') end
if not string.match(quantity, '^[1-9]%d?%d?%d?$') then return refuse('quantity') end
if #number > 15 or not string.match(number, '^%d+$') then return refuse('number') end
if #visitor ~= 22 or not string.match(visitor, '^[%w_-]+$') then return refuse('visitor') end
if #confirm_ms > 6 or not string.match(confirm_ms, '^[1-9]%d*$') then return refuse('confirm_ms') end

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local s = redis.call('HMGET', KEYS[1], 'available', 'epoch', 'starts_at_ms', 'ends_at_ms', 'per_user_limit', 'held', 'unconfirmed')
if not s[1] then return {'not_loaded'} end
local available, starts, ends, limit = tonumber(s[1]), tonumber(s[3]), tonumber(s[4]), tonumber(s[5])
local held, unconfirmed = tonumber(s[6]), tonumber(s[7])
if not (available and s[2] and starts and ends and limit and held and unconfirmed) then
  return redis.error_reply('BADSTATE stock')
end
local now_text = string.format('%.0f', now)
local deadline = string.format('%.0f', now + tonumber(confirm_ms))

local op = account .. ':' .. key
local pass = 'p:' .. number .. ':' .. visitor
local found = redis.call('HMGET', KEYS[5], op, pass)
local prior, holder = found[1], found[2]
if prior then
  local unit = redis.call('HGET', KEYS[3], prior)
  local had, state = string.match(unit or '', '^[^|]*|(%d+)|%d+|(%a)|')
  if had then
    -- Of a sold order some units may have gone back: what it once was, the ledger knows.
    if had ~= quantity and state ~= 's' then return {'reused'} end
    -- Offered again: give the commit its full time again, and say so (a): who fails with the first offer must not give
    -- units back that the second may just be buying.
    if state == 'u' or state == 'a' then
      redis.call('ZADD', KEYS[2], 'XX', deadline, prior)
      redis.call('HSET', KEYS[3], prior, (string.gsub(unit, '^([^|]*|%d+|%d+|)%a', '%1a')))
    end
    return {'again', prior, s[2], now_text}
  end
end

local bought = redis.call('HGET', KEYS[4], account)
local known = bought and 1 or 0
local wanted = tonumber(quantity)
if now < starts or now >= ends then return {'not_open', known} end
if holder and holder ~= account then return {'stranger', known} end
if (tonumber(bought or '0') or limit) + wanted > limit then return {'limit', known} end
if wanted > available then return {'sold_out', known} end

-- Few calls: each is a line in the log of commands. The first says whether the order is new, before anything is written.
local unit = account .. '|' .. quantity .. '|' .. number .. '|u|' .. key .. '|' .. visitor
if redis.call('HSETNX', KEYS[3], order, unit) == 0 then return refuse('order repeats') end
redis.call('HSET', KEYS[1], 'available', string.format('%.0f', available - wanted), 'held', string.format('%.0f', held + wanted),
  'unconfirmed', string.format('%.0f', unconfirmed + 1))
redis.call('ZADD', KEYS[2], deadline, order)
redis.call('HINCRBY', KEYS[4], account, quantity)
redis.call('HSET', KEYS[5], op, order, pass, account)
redis.call('HINCRBY', KEYS[5], 'n:' .. number, '1')
local lease = redis.call('ZSCORE', KEYS[6], number)
if lease then
  redis.call('ZREM', KEYS[6], number)
  redis.call('ZADD', KEYS[7], lease, number)
end
return {'held', order, s[2], now_text}
