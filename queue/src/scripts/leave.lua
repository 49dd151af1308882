-- leave: a visitor gives up the place, the call or the lease.
--
-- Keys  1 room (HASH)  2 line  3 lobby  4 silent  5 called  6 inside  7 buying (ZSETs)  8 missed (HASH)
--       9 returned (SET)  10 left (ZSET)  11 entered (HASH)  12 ended (ZSET)
-- Args  1 now_ms (0 = this server's clock)   2 after a loss of the store nobody is called for so many ms
--       3 longest that a pass may still last, in ms   4 number
-- Reply 1 when something was given up, 0 when there was nothing (left before, finished, never known)
-- Operation id: the number. A repeat changes nothing and returns 0.
-- The number is remembered in `left`, so that a late heartbeat does not put it back into line, and in `ended`, so that
--   a pass for it opens nothing any more.
-- A hold of somebody who leaves while buying is not touched here: it belongs to the deal and ends by itself.
-- Races: with a tick: called first, then removed from `called`: the place is free again at the next tick.
-- Crash: all of it or nothing.
if #KEYS ~= 12 or #ARGV ~= 4 then return redis.error_reply('BADARG count') end
for i = 1, 4 do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
local room, line, lobby, silent, called, inside, buying, missed, returned, left, entered, ended = unpack(KEYS)
local number = ARGV[4]
local state = redis.call('HMGET', room, 'next', 'lost_ms', 'skew_ms')
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + tonumber(state[3] or 0)
local text = function(n) return string.format('%.0f', n) end
-- A number that this store never gave proves a loss; it must not be given to somebody else (see beat.lua).
if tonumber(number) >= tonumber(state[1] or 1) then
  redis.call('HSET', room, 'next', tonumber(number) + 1)
  if now - tonumber(state[2] or 0) > 600000 then
    redis.call('HSET', room, 'lost_ms', text(now), 'hold_until_ms', text(now + tonumber(ARGV[2])))
  end
end
local waited, leased = 0, 0
for _, key in ipairs({ line, lobby, silent, called }) do waited = waited + redis.call('ZREM', key, number) end
local idle = redis.call('ZREM', inside, number)
leased = idle + redis.call('ZREM', buying, number)
if leased > 0 then
  redis.call('HDEL', entered, number)
  redis.call('ZADD', ended, text(now + tonumber(ARGV[3])), number)
  if idle > 0 then redis.call('HINCRBY', room, 'idle', 1) end
end
redis.call('HDEL', missed, number)
redis.call('SREM', returned, number)
redis.call('ZADD', left, 'NX', text(now), number)
if waited + leased == 0 then return 0 end
redis.call('HINCRBY', room, 'leaves', 1)
return 1
