-- record: entrants who hold a ticket tell their records to a store that may have lost them, while the lobby is open.
--
-- Keys  1 room (HASH)  2 entrants (STRING)
-- Args  number and leaf (64 hex digits) of each of at most 500 tickets that were taken before the draw
-- Reply how many records were written
-- Operation id: the number. A record that is there stays: a repeat, or another leaf, changes nothing.
-- A number that this store has not given yet is left out: the heartbeat that comes with it raises the counter first.
-- Races: with the start: whatever froze the lobby first ends this, so a published list never changes.
-- Crash: all of it or nothing; who is still there tells it again.
if #KEYS ~= 2 or #ARGV < 2 or #ARGV > 1000 or #ARGV % 2 ~= 0 then return redis.error_reply('BADARG count') end
for i = 1, #ARGV, 2 do
  if #ARGV[i] > 9 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) < 1 then return redis.error_reply('BADARG ' .. i) end
  if #ARGV[i + 1] ~= 64 or not ARGV[i + 1]:match('^%x+$') then return redis.error_reply('BADARG ' .. (i + 1)) end
end
local room, entrants = unpack(KEYS)
local state = redis.call('HMGET', room, 'draw_count', 'draw_phase', 'next')
if state[1] or (state[2] or 'committed') ~= 'committed' then return 0 end
-- The longest string that Redis keeps has 2^29 bytes.
local below = math.min(tonumber(state[3] or 1), 8388609)
local written = 0
for i = 1, #ARGV, 2 do
  local number = tonumber(ARGV[i])
  if number < below then
    local at = (number - 1) * 64
    local present = redis.call('GETRANGE', entrants, at, at + 63)
    if not present:find('[^%z]') then
      redis.call('SETRANGE', entrants, at, ARGV[i + 1])
      written = written + 1
    end
  end
end
return written
