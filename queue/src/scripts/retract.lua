-- retract: removes one room from the list, with what operators said about it. Its line and its tickets stay where they
-- are, and its log stays for a while longer.
--
-- Keys  1 settings (HASH)  2 version (counter)  3 overrides (HASH)  4 the room's log (LIST)  5 its operations (HASH)
-- Args  1 room   2 the log stays for so many seconds
-- Reply 1 when it was there, else 0
-- Operation id: the room. A repeat changes nothing.
-- Races: with publish and control: the later one stands; a log that is written again stays for good.
-- Crash: all of it or nothing.
if #KEYS ~= 5 or #ARGV ~= 2 then return redis.error_reply('BADARG count') end
if #ARGV[2] > 9 or not ARGV[2]:match('^%d+$') then return redis.error_reply('BADARG 2') end
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('EXPIRE', KEYS[4], ARGV[2])
redis.call('EXPIRE', KEYS[5], ARGV[2])
if redis.call('EXISTS', KEYS[2]) == 0 then
  local time = redis.call('TIME')
  redis.call('SET', KEYS[2], time[1] * 1000000 + time[2])
end
redis.call('INCR', KEYS[2])
return 1
