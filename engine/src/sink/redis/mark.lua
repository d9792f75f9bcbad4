-- Marks a key whose record was dead-lettered. KEYS: the version. ARGV[1]: the record's fence; ARGV[2]: the smallest fence of its generation;
-- ARGV[3]: its partition. docs/decisions/0003-redis-format.md has the positions.
-- Answers: 1 marked, 2 this mark or a greater one is there, 4 the key holds this write or a newer one; the stored version where it is of
-- another partition.
local mark, generation = ARGV[1], ARGV[2]
local stored = redis.call('GET', KEYS[1])
if not stored then
  redis.call('SET', KEYS[1], string.rep('0', 19) .. ' n ' .. string.rep('0', 16) .. ' ' .. string.rep('0', 16) .. ' ' .. ARGV[3] .. ' ' .. mark)
  return 1
end
if #stored < 57 or string.byte(stored, 20) ~= 32 or string.byte(stored, 56) ~= 32 then
  return redis.error_reply('BADVERSION the companion key holds something that is no version')
end
local was = string.sub(stored, 1, 19)
local at = string.find(stored, ' ', 57, true)
if was >= generation and string.sub(stored, 57, (at or 0) - 1) ~= ARGV[3] then
  return stored
end
if was >= mark then
  return 4
end
if at and string.sub(stored, at + 1) >= mark then
  return 2
end
-- The version loses its time to live: a mark stays until a newer write, which sets its own.
redis.call('SET', KEYS[1], string.sub(stored, 1, (at or 0) - 1) .. ' ' .. mark)
return 1
