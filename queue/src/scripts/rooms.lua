-- rooms: all settings and all overrides, if they changed. Reads only.
--
-- Keys  1 settings (HASH)  2 version (counter)  3 overrides (HASH)
-- Args  1 the version that the caller has (0 = none)
-- Reply {version} when it is the same, {0, {room, record, …}} when the store has no list,
--       else {version, {room, record, …}, {room, JSON, …}}
-- Operation id: none needed. Races: none, all keys are read at one moment. Crash: nothing was written.
if #KEYS ~= 3 or #ARGV ~= 1 then return redis.error_reply('BADARG count') end
local version = redis.call('GET', KEYS[2])
if version == ARGV[1] then return { tonumber(version) } end
local overrides = redis.call('HGETALL', KEYS[3])
if not version then return { 0, overrides } end
return { tonumber(version), overrides, redis.call('HGETALL', KEYS[1]) }
