-- draw_note: writes down how far a draw is.
--
-- Keys  1 room (HASH)
-- Args  1 the phase that is expected ('none', 'committed' or 'closed')   2 the phase to write ('committed', 'closed' or
--       'drawn')   3 the published document as JSON
-- Reply the document that counts now: the written one, or the one that was faster
-- Operation id: the phase. A repeat, or another gate: finds the phase written and changes nothing.
-- Races: as above, the first one counts. Crash: all of it or nothing.
if #KEYS ~= 1 or #ARGV ~= 3 then return redis.error_reply('BADARG count') end
local from = { none = true, committed = true, closed = true }
local to = { committed = true, closed = true, drawn = true }
if not from[ARGV[1]] then return redis.error_reply('BADARG 1') end
if not to[ARGV[2]] then return redis.error_reply('BADARG 2') end
if #ARGV[3] < 2 or #ARGV[3] > 8192 or ARGV[3]:sub(1, 1) ~= '{' then return redis.error_reply('BADARG 3') end
local state = redis.call('HMGET', KEYS[1], 'draw_phase', 'draw')
if (state[1] or 'none') ~= ARGV[1] then return state[2] or '' end
redis.call('HSET', KEYS[1], 'draw_phase', ARGV[2], 'draw', ARGV[3])
return ARGV[3]
