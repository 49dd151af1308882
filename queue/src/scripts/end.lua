-- end: a lease ends for good, and with it the pass: the number is kept in `ended` until the pass would be over anyway.
--
-- Keys  1 room (HASH)  2 inside  3 buying (ZSETs)  4 entered (HASH)  5 ended (ZSET)
-- Args  1 now_ms (0 = this server's clock)   2 end of the pass in ms, as the pass says   3 number
-- Reply 1 when a lease ended, 0 when there was none (the pass ends all the same)
-- Operation id: the number. A repeat changes nothing.
-- A hold of somebody who ends while buying is not touched here: it belongs to the deal and ends by itself.
-- Races: with a renewal: the lease is gone for it. With a claim: refused, the number is in `ended`.
-- Crash: all of it or nothing.
if #KEYS ~= 5 or #ARGV ~= 3 then return redis.error_reply('BADARG count') end
for i = 1, 3 do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
local room, inside, buying, entered, ended = unpack(KEYS)
local number = ARGV[3]
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + tonumber(redis.call('HGET', room, 'skew_ms') or 0)
local removed = redis.call('ZREM', inside, number) + redis.call('ZREM', buying, number)
redis.call('HDEL', entered, number)
if tonumber(ARGV[2]) > now then redis.call('ZADD', ended, ARGV[2], number) end
return removed > 0 and 1 or 0
