-- publish: adds or changes the settings of one room.
--
-- Keys  1 settings (HASH)  2 version (counter)
-- Args  1 most rooms   2 room   3 settings as JSON
-- Reply the version of the list; error FULL when there is no room for one more
-- Operation id: the content. Publishing the same settings again changes nothing, the version included.
-- Races: two publishers of one room: the later one stands; a reader never sees one key without the other.
-- Crash: all of it or nothing. A version that is missing (new or lost store) starts at the clock in
--   microseconds, so that it does not equal one that a gate still remembers.
if #KEYS ~= 2 or #ARGV ~= 3 then return redis.error_reply('BADARG count') end
if #ARGV[1] > 6 or not ARGV[1]:match('^%d+$') then return redis.error_reply('BADARG 1') end
if not ARGV[2]:match('^[a-z0-9-]+$') or #ARGV[2] > 63 then return redis.error_reply('BADARG 2') end
local old = redis.call('HGET', KEYS[1], ARGV[2])
if not old and redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[1]) then
  return redis.error_reply('FULL there are as many rooms as there may be')
end
if redis.call('EXISTS', KEYS[2]) == 0 then
  local time = redis.call('TIME')
  redis.call('SET', KEYS[2], time[1] * 1000000 + time[2])
  old = nil
end
if old == ARGV[3] then return tonumber(redis.call('GET', KEYS[2])) end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return redis.call('INCR', KEYS[2])
