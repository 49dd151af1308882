-- retract: removes one room from the list. Its line and its tickets stay where they are.
--
-- Keys  1 settings (HASH)  2 version (counter)
-- Args  1 room
-- Reply 1 when it was there, else 0
-- Operation id: the room. A repeat changes nothing.
-- Races: with publish: the later one stands. Crash: all of it or nothing.
if #KEYS ~= 2 or #ARGV ~= 1 then return redis.error_reply('BADARG count') end
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
if redis.call('EXISTS', KEYS[2]) == 0 then
  local time = redis.call('TIME')
  redis.call('SET', KEYS[2], time[1] * 1000000 + time[2])
end
redis.call('INCR', KEYS[2])
return 1
