-- hold: writes down that the store is doubted (or that it is new): the calls stop for a while, the clock is carried on.
--
-- Keys  1 room (HASH)  2 called (ZSET)
-- Args  1 now_ms (0 = this server's clock)   2 version of the snapshot   3 nobody is called for so many ms
--       4 highest `next` that the caller has ever seen here (0 = none)   5 highest place seen   6 least gap to leave
--       7 what to add to the room's clock, in ms, may be negative   8 run_id of this server   9 a generation, used if
--       the room has none   10 why (a lower-case word)
-- Reply 1 when written, 0 when the version changed: then look again
-- Operation id: the version. Running twice, or two gates at once: the second finds another version.
-- Deadlines of the called move with the hold, for nobody may claim while it lasts; at most 20,000 of them.
-- Races: with a tick: one of the two finds another version. With a claim: before, and it counts; after, and it waits.
-- Crash: all of it or nothing.
if #KEYS ~= 2 or #ARGV ~= 10 then return redis.error_reply('BADARG count') end
for i = 1, 6 do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
if #ARGV[7] > 16 or not ARGV[7]:match('^%-?%d+$') then return redis.error_reply('BADARG 7') end
for i = 8, 10 do
  if #ARGV[i] < 1 or #ARGV[i] > 64 or not ARGV[i]:match('^[%w_-]+$') then return redis.error_reply('BADARG ' .. i) end
end
local room, called = unpack(KEYS)
local fields = { 'version', 'skew_ms', 'hold_until_ms', 'next', 'shift_ms', 'run_id', 'last_tick_ms' }
local state = redis.call('HMGET', room, unpack(fields))
local version = tonumber(state[1] or 0)
if version ~= tonumber(ARGV[2]) then return 0 end
local skew = tonumber(state[2] or 0) + tonumber(ARGV[7])
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + skew
local hold_ms = tonumber(ARGV[3])
if hold_ms > 0 then
  local held_until = tonumber(state[3] or 0)
  local longer = now + hold_ms - math.max(now, held_until)
  -- How far in all: it tells when those people were called.
  local shift = longer + (held_until > now and tonumber(state[5] or 0) or 0)
  if longer > 0 then
    local waiting = redis.call('ZRANGE', called, 0, 19999)
    for _, number in ipairs(waiting) do redis.call('ZINCRBY', called, longer, number) end
  end
  redis.call('HSET', room, 'hold_until_ms', string.format('%.0f', now + hold_ms), 'lost_ms', string.format('%.0f', now),
    'shift_ms', string.format('%.0f', shift))
  redis.call('HINCRBY', room, 'losses', 1)
end
-- Numbers and places that were given must not be given again. Another process may have lost the last of them, and the
-- gates that gave them may be gone, too: then nobody remembers. The gap grows with the time that is lost, ten numbers
-- per ms for five minutes at most: a copy that comes back twice does not begin twice at the same number. Of a store
-- that is empty the time is not known: then the clock stands for it, modulo these five minutes.
local next_number, next_min = tonumber(state[4] or 1), tonumber(ARGV[4])
if next_number < next_min or state[6] and state[6] ~= ARGV[8] then
  local lost_ms = state[7] and math.max(0, math.min(now - tonumber(state[7]), 300000)) or now % 300000
  local gap, tag = tonumber(ARGV[6]) + 10 * lost_ms, math.floor(tonumber(ARGV[5]) / 8)
  redis.call('HSET', room, 'next', string.format('%.0f', math.max(next_number, next_min) + gap))
  -- Each number is worth a thousand tags of a lane that has the whole rate (`lane.rs`).
  for lane = 0, 7 do
    local old = tonumber(redis.call('HGET', room, 'lane' .. lane) or 0)
    redis.call('HSET', room, 'lane' .. lane, string.format('%.0f', math.max(old, tag) + 1000 * gap))
  end
end
redis.call('HSETNX', room, 'generation', ARGV[9])
redis.call('HSET', room, 'version', version + 1, 'skew_ms', string.format('%.0f', skew), 'run_id', ARGV[8], 'doubt', ARGV[10])
return 1
