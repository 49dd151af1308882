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
if #ARGV == 0 then return 0 end
local orders = {}
for i = 1, #ARGV, 2 do orders[#orders + 1] = ARGV[i] end
local units = redis.call('HMGET', KEYS[3], unpack(orders))
local confirmed, fresh, due, known = {}, {}, {}, 0
for n, order in ipairs(orders) do
  local head, state, tail = string.match(units[n] or '', '^([^|]*|%d+|%d+|)(%a)(|.*)$')
  local is_unconfirmed = state == 'u' or state == 'a'
  -- An order that was offered twice may be named twice.
  if is_unconfirmed and not confirmed[order] then
    confirmed[order] = true
    fresh[#fresh + 1] = order
    fresh[#fresh + 1] = head .. 'h' .. tail
  end
  if is_unconfirmed or state == 'h' then
    due[#due + 1] = ARGV[2 * n]
    due[#due + 1] = order
    known = known + 1
  end
end
if #fresh > 0 then
  redis.call('HSET', KEYS[3], unpack(fresh))
  redis.call('HINCRBY', KEYS[1], 'unconfirmed', string.format('%.0f', -#fresh / 2))
end
if #due > 0 then redis.call('ZADD', KEYS[2], unpack(due)) end
return known
