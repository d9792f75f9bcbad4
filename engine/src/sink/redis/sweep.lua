-- Removes a document that was last written before a generation, or never by this engine, and leaves a tombstone.
-- KEYS: the document; its version. ARGV[1]: the smallest fence of the generation; ARGV[2]: the tombstone's version up to its partition,
-- which stays as it was; ARGV[3]: its time to live, in seconds. Answers 1 where the document is gone, 0 where it stays.
local stored = redis.call('GET', KEYS[2])
local partition = '0'
if stored then
  if #stored < 57 or string.byte(stored, 20) ~= 32 or string.byte(stored, 56) ~= 32 then
    return redis.error_reply('BADVERSION the companion key holds something that is no version')
  end
  local mark = string.find(stored, ' ', 57, true)
  -- A row of the generation that was dead-lettered is still a row: its document is old, not gone.
  if string.sub(stored, 1, 19) >= ARGV[1] or (mark and string.sub(stored, mark + 1, mark + 19) >= ARGV[1]) then
    return 0
  end
  partition = string.sub(stored, 57, (mark or 0) - 1)
end
if redis.call('DEL', KEYS[1]) == 0 then
  return 0
end
redis.call('SET', KEYS[2], ARGV[2] .. partition, 'EX', ARGV[3])
return 1
