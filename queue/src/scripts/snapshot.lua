-- snapshot: what a tick needs to decide. Reads only.
--
-- Keys  1 room (HASH)  2 line  3 lobby  4 silent  5 called  6 inside  7 buying (ZSETs)  8 stock (HASH)
-- Args  1 now_ms (0 = this server's clock)
-- Reply {now_ms, fields of the room (name, value, …), run_id of this server, in line with a drawn place, in the lobby,
--        silent, called, inside, buying, {available, held, sold, total} (nil = not loaded)}
--       Expired calls and leases are not counted, whether or not they are swept yet.
-- Operation id: none needed.
-- Races: whatever changes afterwards. call.lua refuses another version and subtracts direct entries;
--   everything else (claims, leavers, holds) only makes more room.
-- Crash: nothing was written.
if #KEYS ~= 8 or #ARGV ~= 1 then return redis.error_reply('BADARG count') end
if #ARGV[1] > 16 or not ARGV[1]:match('^%d+$') then return redis.error_reply('BADARG 1') end
local state = redis.call('HMGET', KEYS[1], 'skew_ms', 'draw_count', 'drawn_to')
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + tonumber(state[1] or 0)
local placed
local draw_count, drawn_to = tonumber(state[2] or 0), tonumber(state[3] or 0)
if drawn_to < draw_count then
  placed = redis.call('ZCOUNT', KEYS[2], '-inf', string.format('%.0f', drawn_to * 8))
else
  placed = redis.call('ZCARD', KEYS[2])
end
local alive = '(' .. string.format('%.0f', now)
return {
  now, redis.call('HGETALL', KEYS[1]), redis.call('INFO', 'server'):match('run_id:(%x+)') or '',
  placed, redis.call('ZCARD', KEYS[3]), redis.call('ZCARD', KEYS[4]),
  redis.call('ZCOUNT', KEYS[5], alive, '+inf'), redis.call('ZCOUNT', KEYS[6], alive, '+inf'), redis.call('ZCOUNT', KEYS[7], alive, '+inf'),
  redis.call('HMGET', KEYS[8], 'available', 'held', 'sold', 'total'),
}
