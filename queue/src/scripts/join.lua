-- join: gives newcomers the next numbers, once per join key; many in one run.
--
-- Keys  1 room (HASH)  2 line  3 lobby (ZSETs)  4 heard (STRING)  5 called (ZSET)  6 joins (HASH)  7 codes (HASH)
--       8 entrants (STRING)  9 stock (HASH)
-- Args  1 now_ms (0 = this server's clock)   2 most people in line   3 claim window in ms
--       4 a tick's spare places count for so many ms (0 = nobody enters directly)   5 1 = the room looks at its stock
--       6 highest `next` that the caller has ever seen here (0 = none)   7 highest place seen   8 gap to leave after a
--       loss of the store   9 after a loss nobody is called for so many ms   10 when a draw's lobby closes (0 = no draw)
--       11 gate   12 number of the batch, rising; 0 = everybody has a key, the batch is not remembered
--       then 7 for each of at most 64 people: join key ('' = none), visitor, lane, cost of the lane (0 = the place is
--       the number), code ('' = none), how many may use the code (0 = any), record of a draw: '', a leaf of
--       64 hex digits, or such a leaf, ':' and the nonce in it (16 to 64 of A-Z a-z 0-9 _ -)
-- Reply one per person: {number, place, joined_ms, 1 = new, claim deadline in ms or 0, visitor the number belongs to
--       and, where its record has one, its nonce},
--       or a word: FULL (no room for more people), USED (the code was used as often as it may be)
-- Operation id: the join key; for people without one gate and batch: a gate sends one batch at a time and repeats it
--   until it is answered. A repeat gives the same number, place, visitor, nonce and time, uses no code, and moves nobody.
-- Places: see `lane.rs`. Those who come before the start of a draw wait in `lobby`; the first script that sees the
--   start freezes how many they are (`draw_count`).
-- Races: two joins with one key: the second finds the first. A join and a tick: a tick that read its snapshot
--   before a direct entry subtracts it (field `directs`). Newcomers never pass people in line: direct entry
--   needs an empty line.
-- Crash: all of it or nothing. A store that came back older than the caller remembers leaves a gap in the
--   numbers and holds all calls for a while, so no number is given twice.
if #KEYS ~= 9 or #ARGV < 19 or #ARGV > 460 or (#ARGV - 12) % 7 ~= 0 then return redis.error_reply('BADARG count') end
local function plain(text, least, most) return #text >= least and #text <= most and text:match('^[%w_-]+$') end
local function whole(text)
  return #text <= 16 and text:match('^%d+$') and tonumber(text) <= 9007199254740991
end
for i = 1, 12 do
  if i ~= 11 and not whole(ARGV[i]) then return redis.error_reply('BADARG ' .. i) end
end
if #ARGV[11] ~= 22 or not ARGV[11]:match('^[%w_-]+$') then return redis.error_reply('BADARG 11') end
for i = 13, #ARGV, 7 do
  local key, visitor, lane, cost, code, uses_max, record = unpack(ARGV, i, i + 6)
  if #key > 128 or key:match('[^!-~]') or key:sub(1, 1) == '~' then return redis.error_reply('BADARG key') end
  if #visitor ~= 22 or not visitor:match('^[%w_-]+$') then return redis.error_reply('BADARG visitor') end
  if not lane:match('^[0-7]$') or not whole(cost) or not whole(uses_max) then return redis.error_reply('BADARG lane') end
  if #code > 64 or code:match('[^!-~]') then return redis.error_reply('BADARG code') end
  if record ~= '' then
    local leaf, nonce = record:match('^(%x+)$'), nil
    if not leaf then leaf, nonce = record:match('^(%x+):(.*)$') end
    if not leaf or #leaf ~= 64 or nonce and not plain(nonce, 16, 64) then return redis.error_reply('BADARG record') end
  end
end

local room, line, lobby, heard, called, joins, codes, entrants, stock = unpack(KEYS)
local waiting_max, claim_window_ms, spare_age_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local next_min, place_min, gap, hold_ms = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local starts_ms, gate, batch = tonumber(ARGV[10]), '~' .. ARGV[11], ARGV[12]
local fields = { 'next', 'last_tick_ms', 'spare', 'hold_until_ms', 'skew_ms', 'frontier', 'draw_count', 'drawn_to' }
local state = redis.call('HMGET', room, unpack(fields))
local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + tonumber(state[5] or 0)
-- `%d` is half the work of `%.0f`, and every number here is a whole one below 2^53.
local text = function(n) return string.format('%d', n) end
local now_text = text(now)

local next_number, last_tick_ms, spare = tonumber(state[1] or 1), tonumber(state[2] or 0), tonumber(state[3] or 0)
local hold_until_ms, frontier = tonumber(state[4] or 0), tonumber(state[6] or 0)
local draw_count, drawn_to = tonumber(state[7]), tonumber(state[8] or 0)
local changed = {}
local tags = {}
local function tag_of(lane)
  if not tags[lane] then tags[lane] = tonumber(redis.call('HGET', room, 'lane' .. lane) or 0) end
  return tags[lane]
end
local set = {}
local function set_tag(lane, tag)
  tags[lane], set[lane] = tag, true
end
if next_number < next_min then
  next_number = next_min + gap
  -- Each number is worth a thousand tags of a lane that has the whole rate (`lane.rs`).
  for lane = 0, 7 do set_tag(lane, math.max(tag_of(lane), math.floor(place_min / 8)) + 1000 * gap) end
  hold_until_ms = math.max(hold_until_ms, now + hold_ms)
  changed.hold_until_ms, changed.lost_ms = text(hold_until_ms), text(now)
end
local in_draw = starts_ms > 0
if in_draw and not draw_count and now >= starts_ms then
  draw_count = next_number - 1
  changed.draw_count = text(draw_count)
end

local waiting, in_lobby = redis.call('ZCARD', line), redis.call('ZCARD', lobby)
local stock_left = true
if ARGV[5] == '1' then stock_left = tonumber(redis.call('HGET', stock, 'available') or 0) > 0 end
local age = now - last_tick_ms
local may_enter = age >= 0 and age < spare_age_ms and now >= hold_until_ms and stock_left
  and (not in_draw or drawn_to >= (draw_count or math.huge))

local before = {}
local stored = batch ~= '0' and redis.call('HGET', joins, gate)
local stored_batch, rest = (stored or ''):match('^(%d+)|(.*)$')
local again = stored_batch == batch
if again then
  for entry in rest:gmatch('([^,]*),') do before[#before + 1] = entry end
end

local replies, kept, bits, newcomers, entered = {}, {}, {}, {}, 0
local first_new = next_number
-- So many numbers from this one on were heard.
local function listen(number, count)
  local at = #bits
  bits[at + 1], bits[at + 2], bits[at + 3], bits[at + 4] = 'SET', 'u' .. count, text(number), text(2 ^ count - 1)
end
-- Who has no key is remembered without visitor and nonce: the same batch brings them again.
local function known(entry, visitor, record)
  local number, place, joined, owner, nonce = entry:match('^(%d+):(%d+):(%d+):?([%w_-]*):?([%w_-]*)$')
  if owner == '' then
    owner = visitor
    if place == '0' then nonce = record:sub(66) end
  end
  if nonce == '' then nonce = nil end
  local deadline = tonumber(redis.call('ZSCORE', called, number) or 0)
  if deadline <= now then deadline = 0 end
  listen(number, 1)
  return { tonumber(number), tonumber(place), tonumber(joined), 0, deadline, owner, nonce }
end
local function newcomer(key, visitor, lane, cost, code, uses_max, record)
  if code ~= '' then
    if uses_max > 0 and tonumber(redis.call('HGET', codes, code) or 0) >= uses_max then return 'USED' end
    redis.call('HINCRBY', codes, code, 1)
  end
  local number, place, nonce = next_number, 0, nil
  next_number = number + 1
  local lobbied = in_draw and not draw_count
  if lobbied then
    in_lobby = in_lobby + 1
    redis.call('ZADD', lobby, number, text(number))
    if record ~= '' then
      redis.call('SETRANGE', entrants, (number - 1) * 64, record:sub(1, 64))
      if #record > 64 then nonce = record:sub(66) end
    end
  elseif cost == 0 then
    place = number * 8
  else
    local tag = math.max(tag_of(lane), math.floor(frontier / 8))
    if lane == 7 then tag = math.max(tag, tag_of(0)) end
    set_tag(lane, tag + cost)
    place = (tag + cost) * 8 + lane
  end
  local deadline, number_text, place_text = 0, text(number), text(place)
  if not lobbied then
    if may_enter and lane ~= 7 and waiting == 0 and spare > 0 then
      deadline = now + claim_window_ms
      spare, entered, frontier = spare - 1, entered + 1, math.max(frontier, place)
      redis.call('ZADD', called, text(deadline), number_text)
    else
      waiting = waiting + 1
      newcomers[#newcomers + 1] = place_text
      newcomers[#newcomers + 1] = number_text
    end
  end
  local entry = number_text .. ':' .. place_text .. ':' .. now_text
  if key ~= '' then redis.call('HSET', joins, key, entry .. ':' .. visitor .. (nonce and ':' .. nonce or '')) end
  return { number, place, now, 1, deadline, visitor, nonce }, entry
end

for i = 13, #ARGV, 7 do
  local key, visitor, lane, cost, code, uses_max, record = unpack(ARGV, i, i + 6)
  local nth = (i - 13) / 7 + 1
  local had = key ~= '' and redis.call('HGET', joins, key)
  if not had and again then had = before[nth] end
  local reply, entry
  if had and had:match('^%d') then
    reply = known(had, visitor, record)
  elseif had and had ~= '' then
    reply = had
  elseif waiting + in_lobby >= waiting_max or next_number > 134217727 then
    reply = 'FULL'
  else
    reply, entry = newcomer(key, visitor, tonumber(lane), tonumber(cost), code, tonumber(uses_max), record)
  end
  replies[nth] = reply
  if entry then
    kept[nth] = entry
  elseif type(reply) == 'table' then
    kept[nth] = text(reply[1]) .. ':' .. text(reply[2]) .. ':' .. text(reply[3])
  else
    kept[nth] = reply
  end
end
if not again and batch ~= '0' then redis.call('HSET', joins, gate, batch .. '|' .. table.concat(kept, ',') .. ',') end
if #newcomers > 0 then redis.call('ZADD', line, 'NX', unpack(newcomers)) end
for number = first_new, next_number - 1, 32 do listen(number, math.min(32, next_number - number)) end
if #bits > 0 then redis.call('BITFIELD', heard, unpack(bits)) end
if entered > 0 then
  local second = math.floor(now / 1000)
  local field = 'r' .. (second % 64)
  local at, calls, claims = string.match(redis.call('HGET', room, field) or '', '^(%d+):(%d+):(%d+)$')
  if tonumber(at) ~= second then calls, claims = 0, 0 end
  redis.call('HINCRBY', room, 'directs', entered)
  redis.call('HINCRBY', room, 'calls', entered)
  changed.spare, changed.frontier = text(spare), text(frontier)
  changed[field] = text(second) .. ':' .. text(calls + entered) .. ':' .. text(claims)
end
changed.next = text(next_number)
for lane in pairs(set) do changed['lane' .. lane] = text(tags[lane]) end
local flat = {}
for name, value in pairs(changed) do
  flat[#flat + 1] = name
  flat[#flat + 1] = value
end
redis.call('HSET', room, unpack(flat))
return replies
