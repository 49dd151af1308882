-- beat: heartbeats of many tickets at once; tells where each stands.
--
-- Keys  1 room (HASH)  2 line  3 seen  4 silent  5 called  6 inside  7 buying (ZSETs)  8 missed (HASH)
--       9 returned (SET)  10 left (ZSET)
-- Args  1 now_ms (0 = this server's clock)   2 after a loss of the store nobody is called for so many ms
--       3 … at most 500 numbers
-- Reply a list, one per number: 0 waiting, 1 called, 2 inside, 3 missed, 4 left
-- Operation id: none needed: a second beat finds what the first one left and answers the same.
-- The silent go back into line at their old place, so they are called first. A called one past the deadline counts
--   as missed here as in call.lua: once is forgiven. A number that this store does not know, behind the frontier and
--   not a leaver's, was lost by the store: tickets are receipts, so it goes back to its place.
-- Races: with call.lua over an expired call: whoever comes first counts the miss, the other finds it gone.
-- Crash: all of it or nothing.
if #KEYS ~= 10 or #ARGV < 3 or #ARGV > 502 then return redis.error_reply('BADARG count') end
for i = 1, #ARGV do
  if #ARGV[i] > 16 or not ARGV[i]:match('^%d+$') or tonumber(ARGV[i]) > 9007199254740991 then
    return redis.error_reply('BADARG ' .. i)
  end
end
local room, line, seen, silent, called, inside, buying, missed, returned, left = unpack(KEYS)
local now, hold_ms = tonumber(ARGV[1]), tonumber(ARGV[2])
if now == 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
local numbers = { unpack(ARGV, 3) }
local state = redis.call('HMGET', room, 'frontier', 'next', 'lost_ms')
local frontier, next_number, lost_ms = tonumber(state[1] or 0), tonumber(state[2] or 1), tonumber(state[3] or 0)
local in_line = redis.call('ZMSCORE', line, unpack(numbers))
local in_called = redis.call('ZMSCORE', called, unpack(numbers))
local in_inside = redis.call('ZMSCORE', inside, unpack(numbers))
local in_buying = redis.call('ZMSCORE', buying, unpack(numbers))

local function stand(number, place)
  redis.call('ZADD', line, place, number)
  redis.call('ZADD', seen, now, number)
  if tonumber(place) < frontier then redis.call('SADD', returned, number) end
  return 0
end

-- Those who simply wait are by far the most: one command for all of them.
local heard = {}
local function one(i, number)
  if in_line[i] then
    heard[#heard + 1] = now
    heard[#heard + 1] = number
    return 0
  end
  if in_called[i] then
    if tonumber(in_called[i]) > now then return 1 end
    redis.call('ZREM', called, number)
    redis.call('HINCRBY', room, 'misses', 1)
    if redis.call('HINCRBY', missed, number, 1) < 2 then return stand(number, number) end
    redis.call('HDEL', missed, number)
    return 3
  end
  local lease = tonumber(in_inside[i] or in_buying[i] or 0)
  if lease > 0 then return lease > now and 2 or 3 end
  local place = redis.call('ZSCORE', silent, number)
  if place then
    redis.call('ZREM', silent, number)
    return stand(number, place)
  end
  if redis.call('ZSCORE', left, number) then return 4 end
  local n = tonumber(number)
  if n <= frontier or n < 1 then return 3 end
  if n >= next_number then
    next_number = n + 1
    redis.call('HSET', room, 'next', next_number)
    -- A number that this store never gave proves a loss. One hold per loss: late tickets must not stall the rest.
    if now - lost_ms > 600000 then
      lost_ms = now
      redis.call('HSET', room, 'lost_ms', now, 'hold_until_ms', now + hold_ms)
    end
  end
  return stand(number, number)
end

local answers, known = {}, {}
for i, number in ipairs(numbers) do
  if known[number] == nil then known[number] = one(i, number) end
  answers[i] = known[number]
end
if #heard > 0 then redis.call('ZADD', seen, unpack(heard)) end
return answers
