-- losers: who of these people would hear "sold out" from `hold` of the deal service, and nothing else.
--
-- Keys  1 stock 2 bought 3 ops (of one room, one hash tag)
-- Args  of each of at most 64 people: operation (account:key), account, quantity, pass (p:number:visitor)
-- Reply one character per person: 1 = sold out; 0 = anything else, `hold` has to be asked
-- Only the plain case: inside the window, nobody who ever held here (`bought`), no operation and no pass that `ops`
-- knows, a quantity within the limit but not in stock. `hold` checks the same in the same order.
-- Operation id: none needed, it reads only.
-- Races: whatever changes afterwards is for whoever asks next. While the stock is being filled `available` is missing, and
--   nobody loses against a half-filled room.
-- Crash: nothing was written.

if #ARGV < 4 or #ARGV > 256 or #ARGV % 4 ~= 0 then return redis.error_reply('BADARG count') end
local s = redis.call('HMGET', KEYS[1], 'available', 'epoch', 'starts_at_ms', 'ends_at_ms', 'per_user_limit')
local available, starts, ends, limit = tonumber(s[1]), tonumber(s[3]), tonumber(s[4]), tonumber(s[5])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)
local sells = available and s[2] and starts and ends and limit and now >= starts and now < ends
local answers = {}
for i = 1, #ARGV, 4 do
  local wanted = tonumber(ARGV[i + 2])
  if not wanted then return redis.error_reply('BADARG ' .. (i + 2)) end
  local answer = '0'
  if sells and wanted > available and wanted <= limit then
    local known = redis.call('HMGET', KEYS[3], ARGV[i], ARGV[i + 3])
    if not known[1] and not known[2] and not redis.call('HGET', KEYS[2], ARGV[i + 1]) then answer = '1' end
  end
  answers[#answers + 1] = answer
end
return table.concat(answers)
