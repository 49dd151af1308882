-- draw_place: writes the next drawn places into the line, in the order of the places.
--
-- Keys  1 room (HASH)  2 line  3 lobby (ZSETs)
-- Args  1 places written so far, then at most 2,000 numbers: of the next places, in order
-- Reply how many places are written now; -1 before the draw
-- Operation id: argument 1. A repeat, or another writer: finds more places written and changes nothing.
-- Who has left the lobby has no place. The lobby is forgotten with the last place.
-- Races: with a tick: it calls only places that are written. Crash: all of it or nothing; the next writer goes on.
if #KEYS ~= 3 or #ARGV < 2 or #ARGV > 2001 then return redis.error_reply('BADARG count') end
for i = 1, #ARGV do
  if #ARGV[i] > 9 or not ARGV[i]:match('^%d+$') then return redis.error_reply('BADARG ' .. i) end
end
local room, line, lobby = unpack(KEYS)
local state = redis.call('HMGET', room, 'drawn_to', 'draw_phase', 'draw_count')
local written, count = tonumber(state[1] or 0), tonumber(state[3] or 0)
if state[2] ~= 'drawn' then return -1 end
if written ~= tonumber(ARGV[1]) then return written end
local numbers = { unpack(ARGV, 2) }
local present = redis.call('ZMSCORE', lobby, unpack(numbers))
local placed = {}
for i, number in ipairs(numbers) do
  if present[i] then
    placed[#placed + 1] = string.format('%.0f', (written + i) * 8)
    placed[#placed + 1] = number
  end
end
if #placed > 0 then redis.call('ZADD', line, unpack(placed)) end
written = written + #numbers
redis.call('HSET', room, 'drawn_to', string.format('%.0f', written))
if written >= count then redis.call('UNLINK', lobby) end
return written
