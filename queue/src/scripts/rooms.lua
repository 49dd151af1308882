-- rooms: all settings, if they changed. Reads only.
--
-- Keys  1 settings (HASH)  2 version (counter)
-- Args  1 the version that the caller has (0 = none)
-- Reply {version} when it is the same or the store has no list, else {version, {room, JSON, …}}
-- Operation id: none needed. Races: none, both keys are read at one moment. Crash: nothing was written.
if #KEYS ~= 2 or #ARGV ~= 1 then return redis.error_reply('BADARG count') end
local version = redis.call('GET', KEYS[2])
if not version then return { 0 } end
if version == ARGV[1] then return { tonumber(version) } end
return { tonumber(version), redis.call('HGETALL', KEYS[1]) }
