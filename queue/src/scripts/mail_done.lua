-- mail_done: reports on a letter, or takes an address away for good.
--
-- Keys  1 mail (ZSET)  2 mailto (HASH)  3 mailing (ZSET)  4 mailed (SET)
-- Args  1 now_ms (0 = this server's clock)   2 number   3 again_in_ms: 0 = finished, else try again after so long
--       4 longest keeping in ms
-- Reply 1 when there was an address, 0 when not
-- Operation id: the number. A repeat changes nothing that matters: finished stays finished.
-- Races: with mail_take.lua after the lease ran out: the letter is under way twice then, with one message id.
-- Crash: all of it or nothing.
if #KEYS ~= 4 or #ARGV ~= 4 then return redis.error_reply('BADARG count') end
for i = 1, 4 do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
local mail, mailto, mailing, mailed = unpack(KEYS)
local now, number, again_in_ms = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local value = redis.call('HGET', mailto, number)
if not value then return 0 end
if again_in_ms > 0 then
  if now == 0 then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  redis.call('HSET', mailto, number, 'f' .. value:sub(2))
  redis.call('ZADD', mailing, now + again_in_ms, number)
  return 1
end
redis.call('ZREM', mail, number)
redis.call('ZREM', mailing, number)
redis.call('HDEL', mailto, number)
redis.call('SADD', mailed, number)
redis.call('PEXPIRE', mailed, ARGV[4], 'NX')
return 1
