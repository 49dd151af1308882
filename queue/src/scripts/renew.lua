-- renew: activity carries a lease on, up to its longest.
--
-- Keys  1 room (HASH)  2 inside  3 buying (ZSETs)  4 entered (HASH)
-- Args  1 now_ms (0 = this server's clock)   2 lease in ms   3 longest lease in ms   4 number
-- Reply the end of the lease in ms, or 0 when there is none
-- Operation id: the number. A repeat carries it on to the same moment, or a little further; never beyond the longest.
-- Races: with a hold (inside → buying): found in either. With the end of the lease: whoever comes first.
-- Crash: all of it or nothing.
if #KEYS ~= 4 or #ARGV ~= 4 then return redis.error_reply('BADARG count') end
for i = 1, 4 do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
local room, inside, buying, entered = unpack(KEYS)
local number = ARGV[4]
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + tonumber(redis.call('HGET', room, 'skew_ms') or 0)
for _, key in ipairs({ inside, buying }) do
  local lease = tonumber(redis.call('ZSCORE', key, number) or 0)
  if lease > now then
    local since = tonumber(string.match(redis.call('HGET', entered, number) or '', '^%d+') or now)
    local until_ms = math.max(lease, math.min(now + tonumber(ARGV[2]), since + tonumber(ARGV[3])))
    redis.call('ZADD', key, string.format('%.0f', until_ms), number)
    return until_ms
  end
end
return 0
