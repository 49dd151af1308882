-- draw_close: freezes the lobby of a draw once the start has come, and says who writes the places down.
--
-- Keys  1 room (HASH)
-- Args  1 now_ms (0 = this server's clock)   2 the start in ms   3 gate   4 the writer has so many ms until another may go on
-- Reply {entrants, places written so far, 1 = write them down}, or {-1, 0, 0} before the start
-- Operation id: the gate. A repeat carries its turn on.
-- Races: with a join at the start: one of the two freezes, the other finds it done. Two gates: one is the writer.
-- Crash: a writer that is gone is followed by another gate after its time; places are written in order, each once.
if #KEYS ~= 1 or #ARGV ~= 4 then return redis.error_reply('BADARG count') end
for _, i in ipairs({ 1, 2, 4 }) do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
if #ARGV[3] ~= 22 or not ARGV[3]:match('^[%w_-]+$') then return redis.error_reply('BADARG 3') end
local room = KEYS[1]
local fields = { 'skew_ms', 'draw_count', 'drawn_to', 'next', 'draw_gate', 'draw_gate_until_ms', 'draw_phase' }
local state = redis.call('HMGET', room, unpack(fields))
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + tonumber(state[1] or 0)
local count, written = tonumber(state[2]), tonumber(state[3] or 0)
if not count then
  if now < tonumber(ARGV[2]) then return { -1, 0, 0 } end
  count = tonumber(state[4] or 1) - 1
  redis.call('HSET', room, 'draw_count', string.format('%.0f', count))
end
if written >= count and state[7] == 'drawn' then return { count, written, 0 } end
if state[5] and state[5] ~= ARGV[3] and tonumber(state[6] or 0) > now then return { count, written, 0 } end
redis.call('HSET', room, 'draw_gate', ARGV[3], 'draw_gate_until_ms', string.format('%.0f', now + tonumber(ARGV[4])))
return { count, written, 1 }
