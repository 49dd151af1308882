-- confirm: the ledger has these orders; their holds get their real deadlines.
--
-- Keys  1 stock 2 holds 3 units 4 bought 5 ops 6 inside 7 buying
-- Args  pairs of order id, deadline in ms since 1970 (decimal); at most 1000 pairs
-- Reply how many of them are known here and still held
-- Operation id: the order id; a second run sets the same deadline.
-- Races: an order that was settled or released in between is left alone. An order that is unknown
-- (the stock was filled anew) is in the new filling already. Not run at all (crash): the sweeper does it.

if #ARGV % 2 ~= 0 or #ARGV > 2000 then return redis.error_reply('BADARG count') end
for i = 1, #ARGV, 2 do
  if #ARGV[i] ~= 36 then return redis.error_reply('BADARG order') end
  if #ARGV[i + 1] > 15 or not string.match(ARGV[i + 1], '^%d+$') then return redis.error_reply('BADARG deadline') end
end
local known = 0
for i = 1, #ARGV, 2 do
  local order, deadline = ARGV[i], ARGV[i + 1]
  local unit = redis.call('HGET', KEYS[3], order)
  local head, state, tail = string.match(unit or '', '^([^|]*|%d+|%d+|)(%a)(|.*)$')
  local is_unconfirmed = state == 'u' or state == 'a'
  if is_unconfirmed then
    redis.call('HSET', KEYS[3], order, head .. 'h' .. tail)
    redis.call('HINCRBY', KEYS[1], 'unconfirmed', '-1')
  end
  if is_unconfirmed or state == 'h' then
    redis.call('ZADD', KEYS[2], deadline, order)
    known = known + 1
  end
end
return known
