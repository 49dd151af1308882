-- readmit: passes that are still in use are told to a store that may have lost their leases.
--
-- Keys  1 room (HASH)  2 line  3 lobby  4 silent  5 called  6 inside  7 buying  8 ended (ZSETs)  9 entered (HASH)
-- Args  1 now_ms (0 = this server's clock)   then of each of at most 500 passes: number, end in ms, fingerprint of its
--       browser (16 hexadecimal digits)
-- Reply how many leases were written
-- Operation id: the number. A repeat finds the lease and writes nothing.
-- Whoever has a pass stands in no line any more: an old copy of the store would call such a number once more.
-- Races: with the end of the session: an ended number stays ended. Crash: all of it or nothing.
if #KEYS ~= 9 or #ARGV < 4 or #ARGV > 1501 or #ARGV % 3 ~= 1 then return redis.error_reply('BADARG count') end
for i = 1, #ARGV do
  if i > 1 and i % 3 == 1 then
    if #ARGV[i] ~= 16 or not ARGV[i]:match('^%x+$') then return redis.error_reply('BADARG ' .. i) end
  elseif #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
local room, line, lobby, silent, called, inside, buying, ended, entered = unpack(KEYS)
local state = redis.call('HMGET', room, 'next', 'skew_ms')
local next_number = tonumber(state[1] or 1)
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + tonumber(state[2] or 0)
local written = 0
for i = 2, #ARGV, 3 do
  local number, until_ms = ARGV[i], tonumber(ARGV[i + 1])
  local known = redis.call('ZSCORE', inside, number) or redis.call('ZSCORE', buying, number) or redis.call('ZSCORE', ended, number)
  if not known and until_ms > now then
    for _, key in ipairs({ line, lobby, silent, called }) do redis.call('ZREM', key, number) end
    redis.call('ZADD', inside, ARGV[i + 1], number)
    redis.call('HSETNX', entered, number, string.format('%.0f', now) .. ':' .. ARGV[i + 2])
    next_number = math.max(next_number, tonumber(number) + 1)
    written = written + 1
  end
end
if written > 0 then redis.call('HSET', room, 'next', string.format('%.0f', next_number)) end
return written
