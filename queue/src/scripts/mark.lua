-- mark: people who simply wait were heard. One bit each is all there is to say, so a round of them costs the store
-- next to nothing, however many they are.
--
-- Keys  1 heard  2 marks (STRINGs)
-- Args  pairs of a block's offset in bytes (a multiple of 1024, below 16 MiB) and its 1024 bytes: number `n` is bit
--       `n`, the highest of a byte first; at most 1000 pairs
-- Reply how many blocks were taken
-- Operation id: none needed: a bit that is set stays set.
-- Only for tickets beyond the frontier of a line that never lost anything: they need no answer. Whose number is not in
--   the line (a leaver's) is heard without effect. Everybody else, and everybody now and then, takes beat.lua.
-- Races: with call.lua, which begins a new slot: the bit counts from the one moment or the other.
-- Crash: all of it or nothing; `marks` is gone when the script ends.
if #KEYS ~= 2 or #ARGV < 2 or #ARGV > 2000 or #ARGV % 2 ~= 0 then return redis.error_reply('BADARG count') end
for i = 1, #ARGV, 2 do
  local offset = #ARGV[i] <= 8 and ARGV[i]:match('^%d+$') and tonumber(ARGV[i])
  if not offset or offset % 1024 ~= 0 or offset >= 16777216 then return redis.error_reply('BADARG ' .. i) end
  if #ARGV[i + 1] ~= 1024 then return redis.error_reply('BADARG ' .. i + 1) end
end
local heard, marks = KEYS[1], KEYS[2]
redis.call('DEL', marks)
for i = 1, #ARGV, 2 do redis.call('SETRANGE', marks, ARGV[i], ARGV[i + 1]) end
redis.call('BITOP', 'OR', heard, heard, marks)
redis.call('DEL', marks)
return #ARGV / 2
