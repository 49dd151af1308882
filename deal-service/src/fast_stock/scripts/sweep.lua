-- sweep: which holds are past their deadline? The caller asks the ledger about them and then acts.
--
-- Keys  1 stock 2 holds 3 units 4 bought 5 ops 6 inside 7 buying
-- Args  1 grace, ms  2 at most how many (1..1000)
-- Reply {order, state, order, state, …}, the longest overdue first; state u, a unconfirmed, h held
-- Repeats without effect: it only removes deadlines of orders that have no unit.
-- Races: what it names may change before the caller acts; settle, release and confirm look again.

local grace, limit = ARGV[1], ARGV[2]
if #grace > 9 or not string.match(grace, '^%d+$') then return redis.error_reply('BADARG grace') end
if #limit > 4 or not string.match(limit, '^[1-9]%d*$') then return redis.error_reply('BADARG limit') end
if redis.call('HEXISTS', KEYS[1], 'available') == 0 then return {} end
local clock = redis.call('TIME')
local until_ms = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000) - tonumber(grace)
local due = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', string.format('%.0f', until_ms), 'LIMIT', '0', limit)
local out = {}
for _, order in ipairs(due) do
  local state = string.match(redis.call('HGET', KEYS[3], order) or '', '^[^|]*|%d+|%d+|(%a)|')
  if state == 'u' or state == 'a' or state == 'h' then
    out[#out + 1] = order
    out[#out + 1] = state
  else
    redis.call('ZREM', KEYS[2], order)
  end
end
return out
