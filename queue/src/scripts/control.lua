-- control: carries out an operator's change of one room and writes it into the room's log, both or neither.
--
-- Keys  1 overrides (HASH room → record)  2 version of the list of rooms (counter)  3 the room's log (LIST)
--       4 its operations (HASH operation id → fingerprint:seq)
-- Args  1 most entries in a log   2 most rooms with overrides   3 oldest entries to take out of the log (archived)
--       4 room   5 the record that the caller read ('' = none)   6 the new record   7 operation id
--       8 fingerprint of the request, 64 hex digits   9 the log entry, one line of JSON
-- Reply {1} done · {0} somebody else changed the room meanwhile: read again · {2} this operation id was carried out
--       before · error FULL when the log or the list has no room for one more; error BADARG before any write
-- Operation id: argument 7. A repeat has one effect and one entry.
-- Races: two operators of one room: the record that the caller read must be the present one (it holds the hash of the
--   log's last entry), so each entry follows the one that its author has seen. With publish and retract: each touches
--   what is its own.
-- Crash: all of it or nothing. The version moves only if there is one: a list that was lost stays lost until its
--   owners publish again, and gates read overrides without a version meanwhile.
if #KEYS ~= 4 or #ARGV ~= 9 then return redis.error_reply('BADARG count') end
for i = 1, 3 do
  if #ARGV[i] > 6 or not ARGV[i]:match('^%d+$') then return redis.error_reply('BADARG ' .. i) end
end
if not ARGV[4]:match('^[a-z0-9-]+$') or #ARGV[4] > 63 then return redis.error_reply('BADARG 4') end
if #ARGV[5] > 16384 then return redis.error_reply('BADARG 5') end
if not ARGV[6]:match('^{"seq":%d+,.*}$') or #ARGV[6] > 16384 then return redis.error_reply('BADARG 6') end
if not ARGV[7]:match('^[!-~]+$') or ARGV[7]:find('["\\]') or #ARGV[7] > 128 then return redis.error_reply('BADARG 7') end
if not ARGV[8]:match('^[0-9a-f]+$') or #ARGV[8] ~= 64 then return redis.error_reply('BADARG 8') end
if not ARGV[9]:match('^{"seq":%d+,[^\r\n]*}$') or #ARGV[9] > 32768 then return redis.error_reply('BADARG 9') end

local overrides, version, log, operations = unpack(KEYS)
local room, expected, record, operation = ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local present = redis.call('HGET', overrides, room) or ''

if redis.call('HEXISTS', operations, operation) == 1 then return { 2 } end
if present ~= expected then return { 0 } end
if redis.call('LLEN', log) >= tonumber(ARGV[1]) then
  return redis.error_reply('FULL the log of this room has as many entries as it may have')
end
if present == '' and redis.call('HLEN', overrides) >= tonumber(ARGV[2]) then
  return redis.error_reply('FULL there are as many rooms as there may be')
end

local out = tonumber(ARGV[3])
if out > 0 then
  for _, entry in ipairs(redis.call('LRANGE', log, 0, out - 1)) do
    local old = entry:match('"op":"([!-~]-)","prev":"%x+","hash":"%x+"}$')
    if old then redis.call('HDEL', operations, old) end
  end
  redis.call('LTRIM', log, out, -1)
end
redis.call('HSET', overrides, room, record)
redis.call('RPUSH', log, ARGV[9])
redis.call('HSET', operations, operation, ARGV[8] .. ':' .. ARGV[9]:match('^{"seq":(%d+),'))
redis.call('PERSIST', log)
redis.call('PERSIST', operations)
if redis.call('EXISTS', version) == 1 then redis.call('INCR', version) end
return { 1 }
