-- plain: the old way to join, one person per call; kept here as the measure for joining in batches.
--
-- Keys  1 room (HASH)  2 line (ZSET)  3 seen (ZSET)  4 called (ZSET)  5 joins (HASH)  6 stock (HASH)
-- Args  1 most people in line   2 join key   3 visitor
-- Reply {number, joined_ms, 1 = new, 0, visitor}
-- Races: as any script. A repeat with the same key changes nothing.
for i = 1, 3 do
  if #ARGV[i] < 1 or #ARGV[i] > 128 then return redis.error_reply('BADARG ' .. i) end
end
local room, line, seen, called, joins, stock = unpack(KEYS)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local had = redis.call('HGET', joins, ARGV[2])
if had then
  local number, joined, visitor = had:match('^(%d+):(%d+):(.+)$')
  return { tonumber(number), tonumber(joined), 0, 0, visitor }
end
if redis.call('ZCARD', line) >= tonumber(ARGV[1]) then return redis.error_reply('FULL') end
local state = redis.call('HMGET', room, 'next', 'last_tick_ms', 'spare', 'hold_until_ms')
local number = tonumber(state[1] or 1)
redis.call('HSET', room, 'next', number + 1)
redis.call('HSET', joins, ARGV[2], string.format('%.0f:%.0f:%s', number, now, ARGV[3]))
redis.call('ZADD', line, 'NX', number, number)
redis.call('ZADD', seen, now, number)
return { number, now, 1, 0, ARGV[3] }
