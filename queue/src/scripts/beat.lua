-- beat: heartbeats of many tickets at once; tells where each stands.
--
-- Keys  1 room (HASH)  2 line  3 lobby (ZSETs)  4 heard (STRING)  5 silent  6 called  7 inside  8 buying (ZSETs)
--       9 missed (HASH)  10 returned (SET)  11 left (ZSET)
-- Args  1 now_ms (0 = this server's clock)   2 after a loss of the store nobody is called for so many ms
--       then number and place (0 = not drawn yet) of each of at most 500 tickets
-- Reply a list, one per ticket: 0 waiting, 1 called, 2 inside, 3 missed, 4 left
-- Operation id: none needed: a second beat finds what the first one left and answers the same.
-- The silent go back into line at their old place, so they are called first. A called one past the deadline counts
--   as missed here as in call.lua: once is forgiven. A number that this store does not know, behind the frontier and
--   not a leaver's, was lost by the store: tickets are receipts, so it goes back to its place.
-- Races: with call.lua over an expired call: whoever comes first counts the miss, the other finds it gone.
-- Crash: all of it or nothing.
if #KEYS ~= 11 or #ARGV < 4 or #ARGV > 1002 or #ARGV % 2 ~= 0 then return redis.error_reply('BADARG count') end
-- One look at all of them together; one by one only to say which is wrong. Fewer than 16 digits are never too many.
local digits = table.concat(ARGV):match('^%d+$')
for i = 1, #ARGV do
  local length = #ARGV[i]
  if length == 0 or length > 16 or not digits and not ARGV[i]:match('^%d+$')
    or length == 16 and tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
local room, line, lobby, heard, silent, called, inside, buying, missed, returned, left = unpack(KEYS)
local state = redis.call('HMGET', room, 'frontier', 'next', 'lost_ms', 'skew_ms', 'draw_count')
local frontier, next_number, lost_ms = tonumber(state[1] or 0), tonumber(state[2] or 1), tonumber(state[3] or 0)
local hold_ms, now = tonumber(ARGV[2]), tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
now = now + tonumber(state[4] or 0)
local numbers = {}
for i = 1, #ARGV / 2 - 1 do numbers[i] = ARGV[2 * i + 1] end
-- Those who simply wait are by far the most: the other sets are asked about the rest only.
local in_line = redis.call('ZMSCORE', line, unpack(numbers))
local rest, rest_at = {}, {}
for i = 1, #numbers do
  if not in_line[i] then
    rest[#rest + 1] = numbers[i]
    rest_at[#rest] = i
  end
end
local function of_rest(key)
  local scores = {}
  if #rest > 0 then
    local found = redis.call('ZMSCORE', key, unpack(rest))
    for k, i in ipairs(rest_at) do scores[i] = found[k] end
  end
  return scores
end
local in_lobby, in_called, in_inside, in_buying = of_rest(lobby), of_rest(called), of_rest(inside), of_rest(buying)

-- One command for all who were heard.
local bits, told = {}, 0
local function listen(number)
  bits[told + 1], bits[told + 2], bits[told + 3], bits[told + 4] = 'SET', 'u1', number, '1'
  told = told + 4
  return 0
end
local function stand(number, place)
  if place == 0 then
    redis.call('ZADD', lobby, number, number)
  else
    redis.call('ZADD', line, string.format('%.0f', place), number)
    if place < frontier then redis.call('SADD', returned, number) end
  end
  return listen(number)
end
local function one(i, number, place)
  if in_lobby[i] then return listen(number) end
  if in_called[i] and tonumber(in_called[i]) > now then return 1 end
  local lease = tonumber(in_inside[i] or in_buying[i] or 0)
  if lease > 0 then return lease > now and 2 or 3 end
  -- Taken before a draw that has happened since: whoever sends it can tell the place by the next time.
  if place == 0 and state[5] then return 0 end
  if in_called[i] then
    redis.call('ZREM', called, number)
    redis.call('HINCRBY', room, 'misses', 1)
    if redis.call('HINCRBY', missed, number, 1) < 2 then return stand(number, place) end
    redis.call('HDEL', missed, number)
    return 3
  end
  if redis.call('ZREM', silent, number) == 1 then return stand(number, place) end
  if redis.call('ZSCORE', left, number) then return 4 end
  local n = tonumber(number)
  if n < 1 or n > 134217727 or (place > 0 and place <= frontier) then return 3 end
  if n >= next_number then
    next_number = n + 1
    redis.call('HSET', room, 'next', next_number)
    -- A number that this store never gave proves a loss. One hold per loss: late tickets must not stall the rest.
    if now - lost_ms > 600000 then
      lost_ms = now
      redis.call('HSET', room, 'lost_ms', string.format('%.0f', now), 'hold_until_ms', string.format('%.0f', now + hold_ms))
    end
  end
  local lane, tag = 'lane' .. (place % 8), math.floor(place / 8)
  if tag > tonumber(redis.call('HGET', room, lane) or 0) then redis.call('HSET', room, lane, string.format('%.0f', tag)) end
  return stand(number, place)
end

local answers, known = {}, {}
for i = 1, #numbers do
  local number = numbers[i]
  if in_line[i] then
    answers[i] = listen(number)
  else
    if known[number] == nil then known[number] = one(i, number, tonumber(ARGV[2 * i + 2])) end
    answers[i] = known[number]
  end
end
if told > 0 then redis.call('BITFIELD', heard, unpack(bits)) end
return answers
