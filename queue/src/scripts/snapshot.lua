-- snapshot: what a tick needs to decide. Reads only.
--
-- Keys  1 room (HASH)  2 line  3 silent  4 called  5 inside  6 buying (ZSETs)  7 stock (HASH)
-- Args  1 now_ms (0 = this server's clock)
-- Reply {now_ms, version, last_tick_ms, carry_micro, hold_until_ms, directs,
--        waiting, silent, called, inside, buying, {available, held, sold, total} (nil = not loaded)}
--       Expired calls and leases are not counted, whether or not they are swept yet.
-- Operation id: none needed.
-- Races: whatever changes afterwards. call.lua refuses another version and subtracts direct entries;
--   everything else (claims, leavers, holds) only makes more room.
-- Crash: nothing was written.
if #KEYS ~= 7 or #ARGV ~= 1 then return redis.error_reply('BADARG count') end
if #ARGV[1] > 16 or not ARGV[1]:match('^%d+$') then return redis.error_reply('BADARG 1') end
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local state = redis.call('HMGET', KEYS[1], 'version', 'last_tick_ms', 'carry_micro', 'hold_until_ms', 'directs')
local alive = '(' .. string.format('%.0f', now)
return {
  now, tonumber(state[1] or 0), tonumber(state[2] or 0), tonumber(state[3] or 0), tonumber(state[4] or 0), tonumber(state[5] or 0),
  redis.call('ZCARD', KEYS[2]), redis.call('ZCARD', KEYS[3]),
  redis.call('ZCOUNT', KEYS[4], alive, '+inf'), redis.call('ZCOUNT', KEYS[5], alive, '+inf'), redis.call('ZCOUNT', KEYS[6], alive, '+inf'),
  redis.call('HMGET', KEYS[7], 'available', 'held', 'sold', 'total'),
}
