-- leave: a visitor gives up the place, the call or the lease.
--
-- Keys  1 room (HASH)  2 line  3 seen  4 silent  5 called  6 inside  7 buying (ZSETs)  8 missed (HASH)
--       9 returned (SET)  10 left (ZSET)
-- Args  1 now_ms (0 = this server's clock)   2 after a loss of the store nobody is called for so many ms   3 number
-- Reply 1 when something was given up, 0 when there was nothing (left before, finished, never known)
-- Operation id: the number. A repeat changes nothing and returns 0.
-- The number is remembered in `left`, so that a late heartbeat does not put it back into line.
-- A hold of somebody who leaves while buying is not touched here: it belongs to the deal and ends by itself.
-- Races: with a tick: called first, then removed from `called`: the place is free again at the next tick.
-- Crash: all of it or nothing.
if #KEYS ~= 10 or #ARGV ~= 3 then return redis.error_reply('BADARG count') end
for i = 1, 3 do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
local room, line, seen, silent, called, inside, buying, missed, returned, left = unpack(KEYS)
local number = ARGV[3]
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
-- A number that this store never gave proves a loss; it must not be given to somebody else (see beat.lua).
local state = redis.call('HMGET', room, 'next', 'lost_ms')
if tonumber(number) >= tonumber(state[1] or 1) then
  redis.call('HSET', room, 'next', tonumber(number) + 1)
  if now - tonumber(state[2] or 0) > 600000 then
    redis.call('HSET', room, 'lost_ms', now, 'hold_until_ms', now + tonumber(ARGV[2]))
  end
end
local removed = 0
for _, key in ipairs({ line, silent, called, inside, buying }) do
  removed = removed + redis.call('ZREM', key, number)
end
redis.call('ZREM', seen, number)
redis.call('HDEL', missed, number)
redis.call('SREM', returned, number)
redis.call('ZADD', left, 'NX', now, number)
if removed == 0 then return 0 end
redis.call('HINCRBY', room, 'leaves', 1)
return 1
