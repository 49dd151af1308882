-- join: gives a newcomer the next number, once per join key.
--
-- Keys  1 room (HASH)  2 line (ZSET)  3 seen (ZSET)  4 called (ZSET)  5 joins (HASH)  6 stock (HASH)
-- Args  1 now_ms (0 = this server's clock)   2 most people in line   3 claim window in ms
--       4 a tick's spare places count for so many ms (0 = nobody enters directly)   5 1 = the room looks at its stock
--       6 highest `next` that the caller has ever seen here (0 = none)   7 gap to leave after a loss of the store
--       8 after a loss nobody is called for so many ms   9 join key   10 visitor
-- Reply {number, joined_ms, 1 = new, claim deadline in ms or 0, visitor the number belongs to}
--       error FULL when the line is full; error BADARG for anything malformed, before any write
-- Operation id: the join key. A repeat gives the same number, visitor and time, and moves nobody.
-- Races: two joins with one key: the second finds the first. A join and a tick: a tick that read its snapshot
--   before a direct entry subtracts it (field `directs`). Newcomers never pass people in line: direct entry
--   needs an empty line.
-- Crash: all of it or nothing. A store that came back older than the caller remembers leaves a gap in the
--   numbers and holds all calls for a while, so no number is given twice.
if #KEYS ~= 6 or #ARGV ~= 10 then return redis.error_reply('BADARG count') end
for i = 1, 8 do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
if #ARGV[9] < 1 or #ARGV[9] > 128 then return redis.error_reply('BADARG 9') end
if not ARGV[10]:match('^[%w_-]+$') or #ARGV[10] ~= 22 then return redis.error_reply('BADARG 10') end

local room, line, seen, called, joins, stock = unpack(KEYS)
local waiting_max, claim_window_ms, spare_age_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local next_min, gap, hold_ms = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

local had = redis.call('HGET', joins, ARGV[9])
if had then
  local number, joined, visitor = had:match('^(%d+):(%d+):(.+)$')
  redis.call('ZADD', seen, 'XX', now, number)
  local deadline = tonumber(redis.call('ZSCORE', called, number) or 0)
  if deadline <= now then deadline = 0 end
  return { tonumber(number), tonumber(joined), 0, deadline, visitor }
end

local waiting = redis.call('ZCARD', line)
if waiting >= waiting_max then return redis.error_reply('FULL the line has no room for more people') end
local state = redis.call('HMGET', room, 'next', 'last_tick_ms', 'spare', 'hold_until_ms')
local number = tonumber(state[1] or 1)
local last_tick_ms, spare, hold_until_ms = tonumber(state[2] or 0), tonumber(state[3] or 0), tonumber(state[4] or 0)
if number < next_min then
  number = next_min + gap
  hold_until_ms = now + hold_ms
  redis.call('HSET', room, 'hold_until_ms', hold_until_ms, 'lost_ms', now)
end
redis.call('HSET', room, 'next', number + 1)
redis.call('HSET', joins, ARGV[9], string.format('%.0f:%.0f:%s', number, now, ARGV[10]))

local age = now - last_tick_ms
local direct = waiting == 0 and spare > 0 and age >= 0 and age < spare_age_ms and now >= hold_until_ms
if direct and ARGV[5] == '1' then
  direct = tonumber(redis.call('HGET', stock, 'available') or 0) > 0
end
if not direct then
  redis.call('ZADD', line, 'NX', number, number)
  redis.call('ZADD', seen, now, number)
  return { number, now, 1, 0, ARGV[10] }
end

local second = math.floor(now / 1000)
local field = 'r' .. (second % 32)
local at, count = string.match(redis.call('HGET', room, field) or '', '^(%d+):(%d+)$')
if tonumber(at) ~= second then count = 0 end
redis.call('ZADD', called, now + claim_window_ms, number)
redis.call('HINCRBY', room, 'directs', 1)
redis.call('HINCRBY', room, 'calls', 1)
redis.call('HSET', room, 'spare', spare - 1, 'frontier', number, field, string.format('%.0f:%.0f', second, count + 1))
return { number, now, 1, now + claim_window_ms, ARGV[10] }
