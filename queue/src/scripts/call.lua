-- call: carries out one decision: sweeps what expired, then calls the lowest places in line.
--
-- Keys  1 room (HASH)  2 line (ZSET)  3 silent  4 called  5 inside  6 buying (ZSETs)  7 missed (HASH)
--       8 returned (SET)  9 left (ZSET)  10 entered (HASH)  11 ended (ZSET)  12 heard  13 heard1  14 heard2  15 heard3 (STRINGs)
-- Args  1 now_ms (0 = this server's clock)   2 version of the snapshot   3 people allowed now
--       4 carry_micro to keep   5 `directs` of the snapshot   6 now_ms of the snapshot   7 claim window in ms
--       8 silent for longer than so many ms = skipped   9 most people looked at   10 most expired entries swept
--       11 leavers are remembered for so many ms   12 limit reason (a lower-case word)
--       13 14 15 the rate's thousandths in use, when that changed, when the upstream was last in trouble
-- Reply {0} when the version changed: nothing was done.
--       {1, version, called, skipped, left to do, directs, inversions, claims missed, dropped for good, leases ended}
--       `left to do` > 0 only when the bound of argument 9 stopped it: run again with the new version.
-- Operation id: the version. Running twice, or two gates at once: the second finds another version.
-- Who is skipped for silence goes to `silent` and loses nothing. A called one who does not claim in time goes there
--   too, the first time; the second time is final. beat.lua puts the silent back at their old place.
--   While a draw is being written down, only places that are written are called.
-- Who was heard is one bit per number in `heard`, the slot that lasts. A tick that finds it a third of the silence old
--   begins a new one and keeps three before it, by the room's field `heard`: when each began, the newest first. A slot
--   counts while its end is not longer ago than the silence, so nobody is silent too soon, and some for a third longer.
-- Races: claim, beat, leave, join are scripts too, so they run before or after. A claim after its deadline is
--   refused there, swept or not.
-- Crash: all of it or nothing. Between two runs of one tick the rest is kept in `carry_micro`, which the next tick
--   caps at one second's worth.
if #KEYS ~= 15 or #ARGV ~= 15 then return redis.error_reply('BADARG count') end
for i = 1, 15 do
  if i ~= 12 and (#ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991) then
    return redis.error_reply('BADARG ' .. i)
  end
end
if not ARGV[12]:match('^[a-z_]+$') or #ARGV[12] > 32 then return redis.error_reply('BADARG 12') end
local look_max, sweep_max = tonumber(ARGV[9]), tonumber(ARGV[10])
if look_max > 2000 or sweep_max > 2000 then return redis.error_reply('BADARG bound') end

local room, line, silent, called, inside, buying, missed, returned, left, entered, ended = unpack(KEYS)
local slots = { unpack(KEYS, 12) }
local fields = { 'version', 'directs', 'frontier', 'skew_ms', 'draw_count', 'drawn_to', 'heard' }
local state = redis.call('HMGET', room, unpack(fields))
local version, directs, frontier = tonumber(state[1] or 0), tonumber(state[2] or 0), tonumber(state[3] or 0)
if version ~= tonumber(ARGV[2]) then return { 0 } end
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + tonumber(state[4] or 0)
local text = function(n) return string.format('%.0f', n) end

local begun = {}
for begun_ms in string.gmatch(state[7] or '', '%d+') do begun[#begun + 1] = tonumber(begun_ms) end
local silence_ms = tonumber(ARGV[8])
if not begun[1] or now < begun[1] or now - begun[1] >= math.ceil(silence_ms / 3) then
  -- What was heard before the first tick belongs to the first slot.
  for i = begun[1] and #slots or 1, 2, -1 do
    if redis.call('EXISTS', slots[i - 1]) == 1 then redis.call('RENAME', slots[i - 1], slots[i]) else redis.call('DEL', slots[i]) end
  end
  table.insert(begun, 1, now)
  for i = 1, #begun do begun[i] = text(begun[i]) end
  redis.call('HSET', room, 'heard', table.concat(begun, ':', 1, math.min(#begun, #slots)))
end
-- Which of these numbers were heard, by index.
local function heard_of(numbers)
  local heard, rest = {}, {}
  for i = 1, #numbers do rest[i] = i end
  for slot = 1, #slots do
    if #rest == 0 or slot > 1 and not (begun[slot - 1] and tonumber(begun[slot - 1]) >= now - silence_ms) then break end
    local ask = {}
    for _, i in ipairs(rest) do
      ask[#ask + 1] = 'GET'
      ask[#ask + 1] = 'u1'
      ask[#ask + 1] = numbers[i]
    end
    local bits, unheard = redis.call('BITFIELD_RO', slots[slot], unpack(ask)), {}
    for k, i in ipairs(rest) do
      if bits[k] == 1 then heard[i] = true else unheard[#unheard + 1] = i end
    end
    rest = unheard
  end
  return heard
end

local function expired(key, since_ms)
  return redis.call('ZRANGEBYSCORE', key, '-inf', text(since_ms or now), 'LIMIT', 0, sweep_max)
end
local claims_missed, dropped, leases_ended, idle = 0, 0, 0, 0
for _, number in ipairs(expired(called)) do
  redis.call('ZREM', called, number)
  claims_missed = claims_missed + 1
  local times = redis.call('HINCRBY', missed, number, 1)
  if times < 2 then
    -- Its place is on the ticket: the next heartbeat tells it.
    redis.call('ZADD', silent, 0, number)
  else
    redis.call('HDEL', missed, number)
    dropped = dropped + 1
  end
end
for _, key in ipairs({ inside, buying }) do
  local over = expired(key)
  if #over > 0 then
    leases_ended = leases_ended + redis.call('ZREM', key, unpack(over))
    redis.call('HDEL', entered, unpack(over))
    if key == inside then idle = idle + #over end
  end
end
for key, since_ms in pairs({ [left] = now - tonumber(ARGV[11]), [ended] = now }) do
  local forgotten = expired(key, since_ms)
  if #forgotten > 0 then redis.call('ZREM', key, unpack(forgotten)) end
end

-- Whoever entered directly since the snapshot used a part of this decision.
local todo = math.max(0, tonumber(ARGV[3]) - math.max(0, directs - tonumber(ARGV[5])))
local draw_count, drawn_to = tonumber(state[5] or 0), tonumber(state[6] or 0)
local drawing = drawn_to < draw_count
if drawing then todo = math.min(todo, redis.call('ZCOUNT', line, '-inf', text(drawn_to * 8))) end
local deadline = now + tonumber(ARGV[7])
local looked, calls, skips, inversions, empty = 0, 0, 0, 0, false
while calls < todo and looked < look_max do
  local heads = redis.call('ZPOPMIN', line, math.min(todo - calls, look_max - looked))
  if #heads == 0 then
    empty = true
    break
  end
  local numbers, places = {}, {}
  for i = 1, #heads, 2 do
    numbers[#numbers + 1] = heads[i]
    places[#places + 1] = tonumber(heads[i + 1])
  end
  looked = looked + #numbers
  local heard = heard_of(numbers)
  local to_called, to_silent = {}, {}
  for i, number in ipairs(numbers) do
    local place = places[i]
    if not heard[i] then
      to_silent[#to_silent + 1] = text(place)
      to_silent[#to_silent + 1] = number
    else
      if place < frontier and redis.call('SISMEMBER', returned, number) == 0 then inversions = inversions + 1 end
      frontier = math.max(frontier, place)
      to_called[#to_called + 1] = deadline
      to_called[#to_called + 1] = number
    end
  end
  if #to_called > 0 then redis.call('ZADD', called, unpack(to_called)) end
  if #to_silent > 0 then redis.call('ZADD', silent, unpack(to_silent)) end
  redis.call('SREM', returned, unpack(numbers))
  calls = calls + #to_called / 2
  skips = skips + #to_silent / 2
  -- Skipped ones made the bound of the draw smaller than it was.
  if drawing then todo = math.min(todo, calls + redis.call('ZCOUNT', line, '-inf', text(drawn_to * 8))) end
end
if not empty then empty = redis.call('ZCARD', line) == 0 end

local rest = todo - calls
local spare, carry = 0, tonumber(ARGV[4])
if drawing and looked < look_max then
  rest = 0
elseif empty then
  spare, rest = rest, 0
else
  carry = carry + rest * 1000000
end
local second = math.floor(now / 1000)
local field = 'r' .. (second % 64)
local at, so_far, claims = string.match(redis.call('HGET', room, field) or '', '^(%d+):(%d+):(%d+)$')
if tonumber(at) ~= second then so_far, claims = 0, 0 end
if calls > 0 then redis.call('HSET', room, field, text(second) .. ':' .. text(so_far + calls) .. ':' .. text(claims)) end
-- For estimates: totals at the last tick of each 20 s, in a ring of 32; a line that ran empty spoils its slot (`eta/trend.rs`).
local slot = math.floor(now / 20000)
local sample, spoilt = 's' .. (slot % 32), text(slot) .. ':empty'
if empty then
  redis.call('HSET', room, sample, spoilt)
elseif redis.call('HGET', room, sample) ~= spoilt then
  local totals = redis.call('HMGET', room, 'calls', 'misses')
  local active = redis.call('ZCARD', called) + redis.call('ZCARD', inside) + redis.call('ZCARD', buying)
  redis.call('HSET', room, sample, text(slot) .. ':' .. text((totals[1] or 0) + calls) .. ':' .. text((totals[2] or 0) + claims_missed)
    .. ':' .. text(redis.call('ZCARD', silent)) .. ':' .. text(active))
end
for name, by in pairs({ calls = calls, skips = skips, misses = claims_missed, inversions = inversions, idle = idle }) do
  if by > 0 then redis.call('HINCRBY', room, name, by) end
end
redis.call('HSET', room, 'version', version + 1, 'last_tick_ms', ARGV[6], 'carry_micro', text(carry), 'spare', text(spare),
  'frontier', text(frontier), 'reason', ARGV[12], 'throttle_milli', ARGV[13], 'throttle_ms', ARGV[14], 'slow_ms', ARGV[15])
return { 1, version + 1, calls, skips, rest, directs, inversions, claims_missed, dropped, leases_ended }
