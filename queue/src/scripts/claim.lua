-- claim: a called number takes its lease.
--
-- Keys  1 room (HASH)  2 line  3 silent  4 called  5 inside  6 buying (ZSETs)  7 missed (HASH)  8 left (ZSET)
-- Args  1 now_ms (0 = this server's clock)   2 lease in ms
--       3 after a loss of the store nobody is called for so many ms   4 number
-- Reply {code, end of the lease in ms or 0, 1 = claimed just now}
--       code 0 inside, 1 not your turn, 2 missed, 3 left
-- Operation id: the number. A repeat finds the lease and returns the same end; `claims` counts once.
-- A claim at or after its deadline is missed even if no tick has swept it. A number behind the frontier that the
--   store does not know (it was lost) is not its turn yet: its next beat puts it back into line.
-- Races: with the sweep of call.lua: either the claim comes first and moves it inside, or it is gone.
-- Crash: all of it or nothing.
if #KEYS ~= 8 or #ARGV ~= 4 then return redis.error_reply('BADARG count') end
for i = 1, 4 do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
local room, line, silent, called, inside, buying, missed, left = unpack(KEYS)
local number = ARGV[4]
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local lease = redis.call('ZSCORE', inside, number) or redis.call('ZSCORE', buying, number)
if lease then
  if tonumber(lease) > now then return { 0, tonumber(lease), 0 } end
  return { 2, 0, 0 }
end
local deadline = redis.call('ZSCORE', called, number)
if deadline then
  if tonumber(deadline) <= now then return { 2, 0, 0 } end
  local lease_until = now + tonumber(ARGV[2])
  redis.call('ZREM', called, number)
  redis.call('HDEL', missed, number)
  redis.call('ZADD', inside, lease_until, number)
  redis.call('HINCRBY', room, 'claims', 1)
  return { 0, lease_until, 1 }
end
if redis.call('ZSCORE', line, number) then return { 1, 0, 0 } end
if redis.call('ZSCORE', silent, number) then
  return { redis.call('HEXISTS', missed, number) == 1 and 2 or 1, 0, 0 }
end
if redis.call('ZSCORE', left, number) then return { 3, 0, 0 } end
-- A number that this store never gave proves a loss; it must not be given to somebody else (see beat.lua).
local state = redis.call('HMGET', room, 'next', 'lost_ms', 'frontier')
if tonumber(number) >= tonumber(state[1] or 1) then
  redis.call('HSET', room, 'next', tonumber(number) + 1)
  if now - tonumber(state[2] or 0) > 600000 then
    redis.call('HSET', room, 'lost_ms', now, 'hold_until_ms', now + tonumber(ARGV[3]))
  end
end
return { tonumber(number) > tonumber(state[3] or 0) and 1 or 2, 0, 0 }
