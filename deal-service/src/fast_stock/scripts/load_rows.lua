-- load_rows: one portion of a filling.
--
-- Keys  1 stock 2 holds 3 units 4 bought 5 ops 6 inside 7 buying
-- Args  1 token  2 'orders' followed by (order, account, quantity, number, deadline ms) each,
--                  or 'bought' followed by (account, units) each; at most 5000 arguments
-- Reply 'taken' | 'stale' (this filling was overtaken or flushed away)
-- Operation id: the token with the order or account; a second run writes the same.

local token, kind = ARGV[1], ARGV[2]
local step = kind == 'orders' and 5 or kind == 'bought' and 2 or 0
if step == 0 or (#ARGV - 2) % step ~= 0 or #ARGV > 5002 then return redis.error_reply('BADARG rows') end
for i = 3, #ARGV, step do
  for j = i, i + step - 1 do
    local id = j == i or (step == 5 and j == i + 1)
    if id and #ARGV[j] ~= 36 then return redis.error_reply('BADARG id') end
    if not id and (#ARGV[j] > 15 or not string.match(ARGV[j], '^%d+$')) then return redis.error_reply('BADARG number') end
  end
end
if redis.call('HGET', KEYS[1], 'loading') ~= token then return 'stale' end
-- A long filling is alive for as long as its portions come.
local clock = redis.call('TIME')
redis.call('HSET', KEYS[1], 'loading_at_ms', string.format('%.0f', clock[1] * 1000 + math.floor(clock[2] / 1000)))
for i = 3, #ARGV, step do
  if step == 2 then
    redis.call('HSET', KEYS[4], ARGV[i], ARGV[i + 1])
  else
    -- Without the idempotency key: the ledger answers replays of orders from before the filling.
    local unit = ARGV[i + 1] .. '|' .. ARGV[i + 2] .. '|' .. ARGV[i + 3] .. '|h|'
    if redis.call('HSETNX', KEYS[3], ARGV[i], unit) == 1 then
      redis.call('HINCRBY', KEYS[5], 'n:' .. ARGV[i + 3], '1')
    end
    redis.call('ZADD', KEYS[2], ARGV[i + 4], ARGV[i])
  end
end
return 'taken'
